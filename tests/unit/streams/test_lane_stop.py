"""How a lane gives its partitions up: what is being committed is finished, within a time, and a silent one is missed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams.output import Output
from tests.unit.streams.test_lane import ONE, TWO, World, records, until

DRAIN_S = 1


class Commits:
    """Commits of one partition, each of which hangs until it is let go."""

    def __init__(self, world: World, tp: TopicPartition) -> None:
        self.begun: list[int] = []
        self.done: list[int] = []
        self.go = asyncio.Event()
        self._tp = tp
        world.idle[tp.partition].process = self.process  # type: ignore[method-assign]
        world.idle[tp.partition].commit = self.commit  # type: ignore[method-assign]

    async def process(self, batch: Any, *, final: bool) -> Output:
        return Output(positions={self._tp: batch[self._tp][-1].offset + 1}) if batch else Output()

    async def commit(self, output: Output) -> None:
        (position,) = output.positions.values()
        self.begun.append(position)
        await self.go.wait()
        self.done.append(position)


async def committing(world: World) -> Commits:
    """A partition in the middle of its commit, beside one with nothing to do."""
    await world.own(ONE, TWO)
    commits = Commits(world, ONE)
    world.lane.loops[1].offer(ONE, records(ONE, 5, 6)[ONE])
    await until(lambda: commits.begun)
    return commits


async def test_a_stop_waits_for_what_is_being_committed_and_begins_nothing_more() -> None:
    world = World(drain_s=3_600)
    commits = await committing(world)
    world.lane.loops[1].offer(ONE, records(ONE, 7)[ONE])
    stop = asyncio.create_task(world.lane.release())
    idle = next(task for task in asyncio.all_tasks() if task.get_name() == "test-2")
    await until(idle.done)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (stop.done(), commits.done) == (False, [])
    commits.go.set()
    await asyncio.wait_for(stop, 10)
    assert (commits.begun, commits.done) == ([7], [7])
    assert world.lane.loops == {}


async def test_a_stop_gives_up_after_its_time_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    world = World(drain_s=DRAIN_S)
    commits = await committing(world)
    tasks = [task for task in asyncio.all_tasks() if task.get_name() in ("test-1", "test-2")]
    assert len(tasks) == 2
    began = time.monotonic()
    await asyncio.wait_for(world.lane.release(), 60)
    took = time.monotonic() - began
    assert DRAIN_S * 0.9 < took < DRAIN_S * 6, "as long as it may, and no multiple but for a busy machine"
    assert all(task.done() for task in tasks)
    assert (commits.done, world.lane.loops) == ([], {})
    assert not world.lane.health()["ready"]
    (line,) = [each for each in caplog.records if each.message == "partitions did not drain in time"]
    assert vars(line)["count"] == 1


async def test_a_lane_that_gave_up_stops_as_one_that_did_not() -> None:
    """So its worker ends with exit status 0: what was not committed is done again by the successor."""
    world = World(drain_s=DRAIN_S)
    async with world.running(ONE, TWO) as lane:
        await until(lambda: lane.health()["ready"])
        world.idle[1].closing = 3_600
    assert lane.crash_reason is None
    assert lane.loops == {}


@pytest.mark.parametrize(("session_timeout_ms", "rebalance_timeout_ms"), [(6_000, 21_000), (45_000, 45_000)])
def test_a_member_is_missed_after_the_session_timeout_and_calls_six_times_within_it(
    session_timeout_ms: int, rebalance_timeout_ms: int
) -> None:
    options = World(session_timeout_ms=session_timeout_ms, drain_s=1).options
    assert options["session_timeout_ms"] == session_timeout_ms
    assert options["heartbeat_interval_ms"] == session_timeout_ms // 6
    assert options["rebalance_timeout_ms"] == rebalance_timeout_ms, (
        "who does not come to a rebalance is missed too"
    )


def test_a_rebalance_waits_for_those_that_drain_and_close() -> None:
    assert World(session_timeout_ms=6_000, drain_s=60).options["rebalance_timeout_ms"] == 80_000
