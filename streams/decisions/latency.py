"""Committed sums to Prometheus. Latencies come as histograms, so the exported one is built from them at scrape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY, Counter
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


class Counters:
    """An agent's counters, found by their labels once: to look for them takes longer than to count."""

    def __init__(self, agent: str, arm: str) -> None:
        self._agent = agent
        self._ml = metrics.DECISIONS.labels(agent, arm, "ml")
        self._rules = metrics.DECISIONS.labels(agent, arm, "deterministic")
        self._escalations: Counter | None = None

    def add(self, arm: ArmSummary) -> None:
        """Add a committed batch; of what never happened there is no counter."""
        self._ml.inc(arm.by_ml)
        self._rules.inc(arm.decisions - arm.by_ml)
        if arm.escalations:
            if self._escalations is None:
                self._escalations = metrics.ESCALATIONS.labels(self._agent)
            self._escalations.inc(arm.escalations)
        for reason, count in arm.fallbacks.items():
            metrics.FALLBACKS.labels(self._agent, reason).inc(count)


_counters: Final = cache(Counters)
"""By agent and arm: a worker has as many as its metrics have labels."""


def observe(arm: ArmSummary) -> None:
    """Take a committed batch's sums to the metrics."""
    LATENCIES.add(arm)
    _counters(arm.agent, arm.arm).add(arm)
