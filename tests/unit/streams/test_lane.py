"""The lane: loops for what it owns, an interval that holds the process's commits, lag and health."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams import lane
from pointsman.streams.lane import Lane
from pointsman.streams.output import Committed, Output
from pointsman.streams.settings import Settings


class Consumer:
    """An assigned consumer: positions, stable offsets, and what was called."""

    def __init__(self) -> None:
        self.stable: dict[TopicPartition, int | None] = {}
        self.at: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.sought: dict[TopicPartition, int] = {}

    def pause(self, tp: TopicPartition) -> None:
        self.paused.add(tp)

    def resume(self, tp: TopicPartition) -> None:
        self.paused.discard(tp)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.sought[tp] = self.at[tp] = offset

    def assignment(self) -> set[TopicPartition]:
        return set(self.at)

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 3)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 99)

    def last_poll_timestamp(self, tp: TopicPartition) -> int:
        import time

        return int(time.time() * 1000)

    def last_stable_offset(self, tp: TopicPartition) -> int | None:
        return self.stable.get(tp)

    async def position(self, tp: TopicPartition) -> int:
        return self.at[tp]


class Idle:
    """A work that does nothing, and a committer that knows one position."""

    def __init__(self, positions: dict[TopicPartition, int | None], closing: float = 0.0) -> None:
        self.positions = positions
        self.closing = closing
        self.fails = False

    async def open(self) -> Committed:
        if self.fails:
            raise OSError("down")
        return Committed(self.positions)

    async def commit(self, output: Output) -> None:
        raise AssertionError

    async def restore(self, committed: Committed) -> None:
        pass

    async def process(self, batch: Any, *, final: bool) -> Output:
        return Output()

    def due(self) -> float | None:
        return None

    async def close(self) -> None:
        closing, self.closing = self.closing, 0.0
        await asyncio.sleep(closing)


class World:
    def __init__(self, at: int | None = 5, **settings: Any) -> None:
        self.idle: dict[int, Idle] = {}
        self.at = at
        self.consumer = Consumer()

        def factory(_lane: Lane, number: int, owned: tuple[TopicPartition, ...]) -> Any:
            self.idle[number] = Idle(dict.fromkeys(owned, self.at))
            return self.idle[number], lambda: self.idle[number]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane, "AIOKafkaConsumer", lambda **_options: self.consumer)
            self.lane = Lane(
                name="test",
                topics=["t", "u"],
                group="g",
                servers="",
                settings=Settings(**settings),
                factory=factory,
            )

    async def own(self, *partitions: TopicPartition) -> None:
        self.lane.own(partitions)
        await asyncio.wait_for(asyncio.gather(*(loop.ready.wait() for loop in self.lane.loops.values())), 10)


ONE, TWO = TopicPartition("t", 1), TopicPartition("t", 2)
OTHER = TopicPartition("u", 1)


async def test_each_partition_number_gets_one_loop_that_seeks_to_what_was_committed() -> None:
    world = World()
    await world.own(ONE, TWO, OTHER)
    assert {number: loop.partitions for number, loop in world.lane.loops.items()} == {
        1: (ONE, OTHER),
        2: (TWO,),
    }
    assert world.consumer.sought == {ONE: 5, OTHER: 5, TWO: 5}
    assert world.consumer.paused == set()
    assert world.lane.health()["ready"]
    await world.lane.release()


async def test_what_was_never_committed_begins_at_the_earliest_offset() -> None:
    world = World(at=None)
    await world.own(ONE)
    assert world.consumer.sought == {ONE: 3}
    await world.lane.release()


async def test_nothing_flows_from_the_assignment_until_the_loop_has_sought() -> None:
    world = World()
    world.lane.own([ONE])
    assert world.consumer.paused == {ONE}
    await world.lane.release()


async def test_a_release_ends_all_loops_even_one_that_will_not_end() -> None:
    world = World(drain_s=1)
    await world.own(ONE, TWO)
    world.idle[1].closing = 3_600
    tasks = [task for task in asyncio.all_tasks() if task.get_name() in ("test-1", "test-2")]
    assert len(tasks) == 2
    await asyncio.wait_for(world.lane.release(), 20)
    assert all(task.done() for task in tasks)
    assert world.lane.loops == {}
    assert not world.lane.health()["ready"]


@pytest.mark.parametrize(("loops", "interval"), [(1, 0.02), (8, 0.02), (80, 0.2)])
def test_the_interval_grows_with_the_partitions_so_that_commits_a_second_hold(
    loops: int, interval: float
) -> None:
    world = World(commit_interval_ms=20, commits_per_s_max=400)
    world.lane.loops = dict.fromkeys(range(loops))  # type: ignore[arg-type]
    assert world.lane.interval_s() == pytest.approx(interval)


async def test_lag_counts_what_is_committed_and_not_worked_on() -> None:
    world = World()
    await world.own(ONE, TWO)
    world.consumer.stable = {ONE: 9, TWO: None}
    await world.lane.measure()
    assert world.lane.lags == {1: 4, 2: 0}
    world.consumer.at[ONE] = 30  # behind transaction markers
    await world.lane.measure()
    assert world.lane.lags[1] == 0
    await world.lane.release()


async def test_a_partition_with_lag_and_no_progress_is_unhealthy_an_idle_one_is_not() -> None:
    world = World(stalled_after_s=30)
    await world.own(ONE, TWO)
    for loop in world.lane.loops.values():
        loop.last_progress -= 31
    world.consumer.stable = {ONE: 9, TWO: 5}
    await world.lane.measure()
    health = world.lane.health()
    assert (health["healthy"], health["stalled_partitions"], health["lag_records"]) == (False, [1], 4)
    world.consumer.at[ONE] = 9
    await world.lane.measure()
    assert world.lane.health()["healthy"]
    world.consumer.stable[ONE] = 10
    await world.lane.measure()
    assert world.lane.health()["healthy"], "after a long idle time, a first request is no stall"
    await world.lane.release()


async def test_a_partition_that_begins_anew_again_and_again_is_unhealthy_in_the_end() -> None:
    world = World(stalled_after_s=30)
    await world.own(ONE)
    world.lane.loops[1].last_progress -= 31
    world.lane.loops[1].ready.clear()
    await world.lane.measure()
    assert world.lane.health()["stalled_partitions"] == [1]
    await world.lane.release()


async def test_an_unknown_stable_offset_is_not_idleness() -> None:
    world = World()
    await world.own(ONE)
    world.lane.loops[1].last_progress = before = world.lane.loops[1].last_progress - 31
    await world.lane.measure()
    assert world.lane.loops[1].last_progress == before
    await world.lane.release()


def test_a_consumer_that_is_not_polled_is_unhealthy() -> None:
    world = World(stalled_after_s=30)
    assert world.lane.health()["healthy"]
    world.lane._polled -= 60
    assert not world.lane.health()["healthy"]


def test_waking_a_partition_that_is_gone_does_nothing() -> None:
    World().lane.wake(9)
