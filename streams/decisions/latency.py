"""Committed sums to Prometheus. Latencies come as histograms, so the exported one is built from them at scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from pointsman.schemas.latency import middle_ms
from pointsman.schemas.summary import ArmSummary
from pointsman.streams import metrics

EDGES_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0)


class LatencyCollector(Collector):
    """Latency by agent and arm: adding a batch costs a few dictionary entries, not one call a decision."""

    def __init__(self) -> None:
        self._histograms: dict[tuple[str, str], dict[int, int]] = {}
        self._sums_ms: dict[tuple[str, str], float] = {}

    def add(self, arm: ArmSummary) -> None:
        """Add a committed batch."""
        key = (arm.agent, arm.arm)
        histogram = self._histograms.setdefault(key, {})
        for at, count in arm.latency.items():
            histogram[at] = histogram.get(at, 0) + count
        self._sums_ms[key] = self._sums_ms.get(key, 0.0) + arm.latency_sum_ms

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """One family, cumulative as Prometheus wants it."""
        family = HistogramMetricFamily(
            "pointsman_decision_seconds",
            "From the request's record time to its outcome.",
            labels=["agent", "arm"],
        )
        for key, histogram in list(self._histograms.items()):
            counts = [0] * (len(EDGES_S) + 1)
            for at, count in histogram.items():
                counts[bisect_left(EDGES_S, middle_ms(at) / 1000)] += count
            buckets = [
                (str(edge), up_to) for edge, up_to in zip((*EDGES_S, "+Inf"), accumulate(counts), strict=True)
            ]
            family.add_metric(list(key), buckets, self._sums_ms[key] / 1000)
        yield family


LATENCIES: Final = LatencyCollector()
REGISTRY.register(LATENCIES)


def observe(arm: ArmSummary) -> None:
    """Take a committed batch's sums to the metrics."""
    LATENCIES.add(arm)
    metrics.DECISIONS.labels(arm.agent, arm.arm, "ml").inc(arm.by_ml)
    metrics.DECISIONS.labels(arm.agent, arm.arm, "deterministic").inc(arm.decisions - arm.by_ml)
    if arm.escalations:
        metrics.ESCALATIONS.labels(arm.agent).inc(arm.escalations)
    for reason, count in arm.fallbacks.items():
        metrics.FALLBACKS.labels(arm.agent, reason).inc(count)
