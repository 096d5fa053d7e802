"""One word for a lane: behind is not stalled, and the worst of several is what a worker says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pointsman.streams import metrics
from pointsman.streams.condition import of_lane, worst
from pointsman.streams.settings import Settings
from pointsman.streams.worker import Worker


def report(*, healthy: bool = True, ready: bool = True, lag: int = 0, owned: int = 3) -> dict[str, Any]:
    return {"healthy": healthy, "ready": ready, "lag_records": lag, "partitions": list(range(owned))}


@pytest.mark.parametrize(
    ("lane", "said"),
    [
        (report(), "ok"),
        (report(owned=0), "ok"),
        (report(lag=3_000), "ok"),
        (report(lag=3_001), "behind"),
        (report(lag=10**9), "behind"),
        (report(lag=1_001, owned=0), "behind"),
        (report(ready=False, lag=10**9), "starting"),
        (report(healthy=False, lag=10**9), "stalled"),
        (report(healthy=False, ready=False), "stalled"),
    ],
)
def test_a_lane_is_behind_while_it_works_on_more_than_two_batches_a_partition(
    lane: dict[str, Any], said: str
) -> None:
    assert of_lane(lane, batch_records_max=500) == said


def test_the_worst_of_several_counts() -> None:
    assert worst(["ok", "behind", "ok"]) == "behind"
    assert worst(["behind", "starting"]) == "starting"
    assert worst(["starting", "stalled", "behind"]) == "stalled"
    assert worst([]) == "ok"


def test_a_worker_with_a_backlog_is_healthy_and_says_that_it_is_behind() -> None:
    lanes = {name: SimpleNamespace(name=name, health=report) for name in ("decisions", "sink")}
    lanes["sink"].health = lambda: report(lag=10**6)
    topology: Any = SimpleNamespace(**lanes, flags=None, control=None)
    health = Worker(Settings(), topology, {}).health()
    assert (health["healthy"], health["ready"], health["condition"]) == (True, True, "behind")
    assert [lane["condition"] for lane in health["lanes"].values()] == ["ok", "behind"]
    assert metrics.BEHIND.labels("sink")._value.get() == 1
    assert metrics.BEHIND.labels("decisions")._value.get() == 0
