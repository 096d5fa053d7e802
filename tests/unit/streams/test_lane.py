"""The lane: loops for what it owns, an interval that holds the process's commits, lag and health."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from operator import attrgetter
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, IllegalStateError, OffsetOutOfRangeError

from pointsman.streams import lane, metrics, partition, shape
from pointsman.streams.lane import Lane
from pointsman.streams.output import Committed, Output
from pointsman.streams.settings import Settings
from tests.builders import record


class Consumer:
    """An assigned consumer: positions, stable offsets, and what was called."""

    def __init__(self) -> None:
        self.stable: dict[TopicPartition, int | None] = {}
        self.at: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.sought: dict[TopicPartition, int] = {}
        self.heard_ms: float = time.time() * 1000
        self.fetches: deque[Any] = deque()
        """What `getmany` gives next: records by partition, or an error; then nothing more."""
        self.spoiled: dict[TopicPartition, Exception] = {}
        """Partitions of which `getmany`, asked for them alone, raises."""
        self.alone: dict[TopicPartition, list[Any]] = {}
        """What it gives, asked for them alone."""
        self.listener: Any = None
        self.partitions_for_topic = lambda _topic: {0}
        self._fetcher = SimpleNamespace(error_future=Future(), _proc_fetch_request=None)
        self._coordinator = SimpleNamespace(_coordination_task=Future())
        self._client = SimpleNamespace(_sync_task=Future())

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def subscribe(self, *, topics: Any, listener: Any) -> None:
        self.listener = listener

    async def getmany(self, *partitions: TopicPartition, **_options: Any) -> Any:
        for tp in partitions:
            if tp in self.spoiled:
                raise self.spoiled[tp]
            if tp in self.alone:
                return {tp: self.alone.pop(tp)}
        if partitions or not self.fetches:
            await asyncio.sleep(0.001)
            return {}
        fetched = self.fetches.popleft()
        if isinstance(fetched, Exception):
            raise fetched
        return fetched

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
        return int(self.heard_ms)

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
        self.restoring = 0.0
        self.got: list[int] = []
        self.breaks: Exception | None = None

    async def open(self) -> Committed:
        if self.fails:
            raise OSError("down")
        return Committed(self.positions)

    async def begin(self) -> None: ...

    async def commit(self, output: Output) -> None:
        raise AssertionError

    async def restore(self, committed: Committed) -> None:
        await asyncio.sleep(self.restoring)

    async def process(self, batch: Any, *, final: bool) -> Output:
        if self.breaks is not None:
            raise self.breaks
        self.got += [each.offset for records in batch.values() for each in records]
        return Output()

    def due(self) -> float | None:
        return None

    async def close(self) -> None:
        closing, self.closing = self.closing, 0.0
        await asyncio.sleep(closing)


class World:
    def __init__(self, at: int | None = 5, lane_options: Any = None, **settings: Any) -> None:
        self.idle: dict[int, Idle] = {}
        self.at = at
        self.restoring = 0.0
        self.consumer = Consumer()
        self.options: dict[str, Any] = {}

        def consumer(**options: Any) -> Consumer:
            self.options = options
            return self.consumer

        def factory(_lane: Lane, number: int, owned: tuple[TopicPartition, ...]) -> Any:
            self.idle[number] = Idle(dict.fromkeys(owned, self.at))
            self.idle[number].restoring = self.restoring
            return self.idle[number], lambda: self.idle[number]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane.reading, "AIOKafkaConsumer", consumer)
            self.lane = Lane(
                name="test",
                topics=["t", "u"],
                group="g",
                servers="",
                settings=Settings(**settings),
                factory=factory,
                **lane_options or {},
            )

    async def own(self, *partitions: TopicPartition) -> None:
        self.lane.own(partitions)
        await asyncio.wait_for(asyncio.gather(*(loop.ready.wait() for loop in self.lane.loops.values())), 10)

    @contextlib.asynccontextmanager
    async def running(self, *partitions: TopicPartition) -> AsyncIterator[Lane]:
        """The lane as a service, with these partitions assigned."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lane, "AIOKafkaAdminClient", lambda **_options: self.consumer)
            patch.setattr(Consumer, "close", Consumer.stop, raising=False)
            patch.setattr(lane, "POLL_MS", 1)
            patch.setattr(shape, "shapes", AsyncMock(return_value={"t": shape.Shape(8), "u": shape.Shape(8)}))
            await self.lane.start()
            try:
                await self.consumer.listener.on_partitions_assigned(set(partitions))
                yield self.lane
            finally:
                await self.lane.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def records(tp: TopicPartition, *offsets: int) -> dict[TopicPartition, list[Any]]:
    return {tp: [record(b"x", offset=offset, topic=tp.topic, partition=tp.partition) for offset in offsets]}


ONE, TWO = TopicPartition("t", 1), TopicPartition("t", 2)
OTHER = TopicPartition("u", 1)


async def test_each_partition_number_gets_one_loop_that_seeks_to_what_was_committed() -> None:
    world = World()
    await world.own(ONE, TWO, OTHER)
    found = {number: loop.partitions for number, loop in world.lane.loops.items()}
    assert found == {1: (ONE, OTHER), 2: (TWO,)}
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
    world.lane._intake.polled -= 60
    assert not world.lane.health()["healthy"]


async def test_without_a_recent_answer_of_the_broker_a_log_read_to_its_end_is_no_idleness() -> None:
    world = World(stalled_after_s=30)
    await world.own(ONE)
    world.consumer.stable = {ONE: 5}
    world.lane.loops[1].last_progress -= 31
    world.consumer.heard_ms -= 31_000
    await world.lane.measure()
    health = world.lane.health()
    assert (health["healthy"], health["stalled_partitions"], health["lag_records"]) == (False, [1], 0)
    world.consumer.heard_ms += 31_000
    await world.lane.measure()
    assert world.lane.health()["healthy"]
    await world.lane.release()


@pytest.mark.parametrize(
    "task", ["_fetcher.error_future", "_coordinator._coordination_task", "_client._sync_task"]
)
async def test_a_lane_whose_consumer_has_died_crashes_with_its_reason(task: str) -> None:
    world = World()
    error = ValueError("a response that cannot be read")
    attrgetter(task)(world.consumer).set_exception(error)
    async with world.running(ONE):
        await until(lambda: world.lane.crashed)
    assert world.lane.crash_reason is not None
    assert world.lane.crash_reason.__cause__ is error


async def test_an_error_of_one_partition_makes_the_lane_fetch_again_what_it_was_not_given() -> None:
    world = World()
    async with world.running(ONE, TWO):
        await until(lambda: world.lane.health()["ready"])
        world.consumer.fetches.append(records(ONE, 5, 6))
        await until(lambda: world.idle[1].got == [5, 6])
        world.consumer.at = {ONE: 40, TWO: 30}  # moved on, and then the error came in place of the records
        world.consumer.spoiled[TWO] = CorruptRecordException()
        world.consumer.fetches.append(CorruptRecordException())
        await until(lambda: world.lane.loops[2].failure)
        assert world.consumer.at[ONE] == 7
        assert world.lane.loops[1].failure is None, "the error is another partition's"
        assert TWO in world.consumer.paused
        assert ONE not in world.consumer.paused


async def test_what_a_partition_yields_when_it_is_asked_alone_reaches_its_loop() -> None:
    world = World()
    async with world.running(ONE):
        await until(lambda: world.lane.health()["ready"])
        world.consumer.alone = records(ONE, 5, 6)
        world.consumer.fetches.append(CorruptRecordException())
        await until(lambda: world.idle[1].got == [5, 6])


async def test_a_consumer_never_resets_a_position_by_itself() -> None:
    assert World().options["auto_offset_reset"] == "none"


async def test_a_position_that_retention_took_begins_at_the_earliest_and_the_loss_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tp = TopicPartition("taken", 1)
    world = World(at=1)
    await world.own(tp)
    assert world.consumer.sought == {tp: 3}
    assert world.lane.loops[1].expected == {tp: 3}
    assert metrics.LOST.labels("taken")._value.get() == 2
    assert "retention took records" in caplog.text
    await world.lane.release()


async def test_a_position_that_is_lost_while_the_lane_runs_begins_anew() -> None:
    world = World()
    async with world.running(ONE, TWO):
        await until(lambda: world.lane.health()["ready"])
        world.consumer.at[ONE] = 1
        world.consumer.fetches.append(OffsetOutOfRangeError({ONE: 1}))
        await until(lambda: world.lane.loops[1].failure)
        assert world.lane.loops[2].failure is None
        await until(lambda: world.lane.health()["ready"])
        assert world.consumer.at[ONE] == 5
        assert world.consumer.paused == set()


async def test_a_lost_position_of_a_partition_that_was_taken_away_meanwhile_ends_no_lane() -> None:
    world = World()
    world.lane.own([ONE])
    await until(lambda: world.lane.health()["ready"])
    del world.consumer.at[ONE]
    world.consumer.pause = Mock(side_effect=IllegalStateError("not assigned"))  # type: ignore[method-assign]
    world.lane._intake.begin_anew([ONE])
    await until(lambda: world.lane.loops[1].failure)
    await world.lane.release()


async def test_a_position_beyond_the_end_is_a_failure_that_is_said() -> None:
    world = World(at=100)
    world.lane.own([ONE])
    await until(lambda: world.lane.loops[1].failure)
    failures: Any = world.lane.health()["failures"]
    assert failures[1].startswith("TopicProblem: t[1] ends at 99")
    assert world.consumer.sought == {ONE: 0}
    assert world.consumer.paused == {ONE}
    await world.lane.release()


async def test_a_partition_is_paused_while_its_loop_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "BACKOFF_S", (3_600.0,))
    world = World()
    await world.own(ONE, TWO)
    assert world.consumer.paused == set()
    world.idle[1].breaks = ValueError("a bug")
    world.lane.wake(1)
    await until(lambda: world.lane.loops[1].failure)
    assert world.consumer.paused == {ONE}
    await world.lane.release()


async def test_a_revoke_does_not_wait_for_a_loop_that_still_reads_back() -> None:
    world = World(drain_s=3_600)
    world.restoring = 3_600
    async with world.running(ONE):
        (task,) = [each for each in asyncio.all_tasks() if each.get_name() == "test-1"]
        await asyncio.sleep(0)
        await asyncio.wait_for(world.consumer.listener.on_partitions_revoked({ONE}), 10)
        assert task.cancelled()


async def test_what_is_assigned_after_the_stop_gets_no_loop() -> None:
    world = World()
    async with world.running(ONE):
        pass
    await world.consumer.listener.on_partitions_assigned({TWO})
    assert world.lane.loops == {}
    assert not [each for each in asyncio.all_tasks() if each.get_name() == "test-2"]


async def test_an_assignment_that_cannot_be_served_crashes_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    error = RuntimeError("no loop")

    def fails(*_args: Any) -> Any:
        raise error

    async with world.running():
        monkeypatch.setattr(world.lane, "_factory", fails)
        await world.consumer.listener.on_partitions_assigned({ONE})  # aiokafka would log and go on
        assert world.lane.crash_reason is error


def test_waking_a_partition_that_is_gone_does_nothing() -> None:
    World().lane.wake(9)
