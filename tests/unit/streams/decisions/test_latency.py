"""Latencies as Prometheus gets them: cumulative, by agent and arm, as many as were decided."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from pointsman.schemas.latency import bucket, middle_ms
from pointsman.schemas.summary import ArmSummary
from pointsman.streams.decisions.latency import EDGES_S, LatencyCollector, observe


def samples(collector: LatencyCollector) -> dict[tuple[str, ...], float]:
    (family,) = collector.collect()
    return {
        (each.name.removeprefix("pointsman_decision_seconds_"), *each.labels.values()): each.value
        for each in family.samples
    }


@given(st.lists(st.lists(st.floats(0, 2_000_000), max_size=30), min_size=1, max_size=3))
def test_a_bucket_holds_all_that_took_no_longer_than_its_edge(batches: list[list[float]]) -> None:
    collector = LatencyCollector()
    for batch in batches:
        counts = Counter(map(bucket, batch))
        collector.add(
            ArmSummary(agent="small", arm="control", latency=dict(counts), latency_sum_ms=sum(batch))
        )
    waited_s = [middle_ms(bucket(ms)) / 1000 for batch in batches for ms in batch]
    found = samples(collector)
    for edge in EDGES_S:
        assert found["bucket", "small", "control", str(edge)] == sum(s <= edge for s in waited_s)
    assert found["bucket", "small", "control", "+Inf"] == found["count", "small", "control"] == len(waited_s)
    assert found["sum", "small", "control"] == sum(map(sum, batches)) / 1000


def test_agents_and_arms_are_apart() -> None:
    collector = LatencyCollector()
    for agent, arm, ms in (("a", "control", 3.0), ("a", "candidate", 30.0), ("b", "control", 300.0)):
        collector.add(ArmSummary(agent=agent, arm=arm, latency={bucket(ms): 1}, latency_sum_ms=ms))  # type: ignore[arg-type]
    found = samples(collector)
    assert {key[1:]: value for key, value in found.items() if key[0] == "sum"} == {
        ("a", "control"): 0.003,
        ("a", "candidate"): 0.03,
        ("b", "control"): 0.3,
    }
    assert found["bucket", "a", "control", "0.01"] == 1
    assert found["bucket", "a", "candidate", "0.01"] == 0


def test_sums_are_counted_under_their_own_labels_batch_after_batch() -> None:
    def counted(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"pointsman_{name}_total", labels)

    for _ in range(2):
        for number, (agent, arm) in enumerate(
            (a, b) for a in ("obs-a", "obs-b") for b in ("control", "candidate")
        ):
            observe(ArmSummary(agent=agent, arm=arm, decisions=10 + number, by_ml=number))  # type: ignore[arg-type]
    assert counted("decisions", agent="obs-a", arm="control", source="ml") == 0
    assert counted("decisions", agent="obs-a", arm="candidate", source="ml") == 2
    assert counted("decisions", agent="obs-b", arm="candidate", source="ml") == 6
    assert counted("decisions", agent="obs-b", arm="control", source="deterministic") == 20
    assert counted("escalations", agent="obs-a") is None, "none was escalated"
    for arm, escalations in (("control", 3), ("candidate", 4)):
        observe(
            ArmSummary(agent="obs-a", arm=arm, decisions=5, escalations=escalations, fallbacks={"busy": 2})
        )  # type: ignore[arg-type]
    assert counted("escalations", agent="obs-a") == 7
    assert counted("fallbacks", agent="obs-a", reason="busy") == 4
    assert counted("escalations", agent="obs-b") is None
