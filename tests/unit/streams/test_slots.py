"""Slots: never more batches under way than there are, in order of asking, and none is lost or made up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.metrics import LaneMetrics
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.partition import PartitionLoop
from pointsman.streams.slots import Slots
from tests.builders import record

LONG_S = 60.0


async def turns(slots: Slots, count: int, turns: int = 3) -> int:
    """Have ``count`` tasks take a slot each; the most that held one at a time."""
    holding = most = 0

    async def take() -> None:
        nonlocal holding, most
        async with slots.one():
            holding += 1
            most = max(most, holding)
            for _ in range(turns):
                await asyncio.sleep(0)
            holding -= 1

    await asyncio.gather(*(take() for _ in range(count)))
    return most


@pytest.mark.parametrize("count", [1, 2, 6])
async def test_so_many_at_a_time_and_no_more(count: int) -> None:
    assert await turns(Slots(count, LONG_S), 20) == count


async def test_who_asks_first_is_served_first() -> None:
    slots, seen = Slots(1, LONG_S), []

    async def take(number: int) -> None:
        async with slots.one():
            seen.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(take(number) for number in range(6)))
    assert seen == list(range(6))


async def test_one_held_for_too_long_is_given_to_the_next_and_given_back_once() -> None:
    slots, over = Slots(1, lease_s=0.001), asyncio.Event()

    async def hang() -> None:
        async with slots.one():
            await over.wait()

    hanging = asyncio.create_task(hang())
    await asyncio.sleep(0)
    async with asyncio.timeout(5), slots.one():
        pass  # though the first one holds its slot still
    over.set()
    await hanging
    slots._lease_s = LONG_S
    assert await turns(slots, 10) == 1, "its end gives nothing back a second time"


async def test_the_time_of_a_slot_begins_when_it_is_had(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []

    def call_later(seconds: float, _give_back: object) -> Mock:
        begun.append(seconds)
        return Mock()

    loop = SimpleNamespace(call_later=call_later)
    patched = SimpleNamespace(get_running_loop=lambda: loop, Semaphore=asyncio.Semaphore)
    monkeypatch.setattr("pointsman.streams.slots.asyncio", patched)
    slots = Slots(1, lease_s=7.0)
    async with slots.one():
        waiting = asyncio.create_task(turns(slots, 1))
        for _ in range(3):
            await asyncio.sleep(0)
        assert begun == [7.0], "not that of who waits"
    await waiting
    assert begun == [7.0, 7.0]


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.none() | st.integers(0, 6)), max_size=12),
)
def test_errors_and_cancelled_waits_leave_as_many_slots_as_before(
    count: int, tasks: list[tuple[int, bool, int | None]]
) -> None:
    async def take(slots: Slots, length: int, fails: bool) -> None:
        async with slots.one():
            for _ in range(length):
                await asyncio.sleep(0)
            if fails:
                raise KeyError

    async def play() -> None:
        slots = Slots(count, LONG_S)
        made = [asyncio.create_task(take(slots, length, fails)) for length, fails, _ in tasks]
        for step in range(8):
            for task, (_, _, cancelled) in zip(made, tasks, strict=True):
                if cancelled == step:
                    task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*made, return_exceptions=True)
        assert await turns(slots, 10) == count

    asyncio.run(play())


class Partition:
    """Source, work and committer of a loop. A batch is under way until it is let go."""

    under_way = 0

    def __init__(self, number: int, go: asyncio.Event) -> None:
        self.tp = TopicPartition("t", number)
        self.go = go
        self.batches: list[int] = []

    async def begin(
        self, positions: dict[TopicPartition, int | None] | None = None
    ) -> dict[TopicPartition, int]:
        return dict.fromkeys(positions or {}, 0)

    def pause(self, tp: TopicPartition) -> None: ...

    def resume(self, tp: TopicPartition) -> None: ...

    async def open(self) -> Committed:
        return Committed({self.tp: 0})

    async def restore(self, committed: Committed) -> None: ...

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:
        Partition.under_way += 1
        await self.go.wait()
        Partition.under_way -= 1
        return Output(positions={self.tp: 1}, payload=sum(map(len, batch.values())))

    async def commit(self, output: Output) -> None:
        self.batches.append(int(str(output.payload)))

    def due(self) -> float | None:
        return None

    async def close(self) -> None: ...


def loops_of(parts: list[Partition], slots: Slots, interval_s: float = 0.0) -> list[PartitionLoop]:
    return [
        PartitionLoop(
            number=part.tp.partition,
            partitions=(part.tp,),
            source=part,
            work=part,
            committer=lambda part=part: part,
            metrics=LaneMetrics("test"),
            batch_records_max=100,
            interval_s=lambda: interval_s,
            deadline_s=10.0,
            slots=slots,
        )
        for part in parts
    ]


async def test_who_waits_for_its_next_commit_holds_no_slot() -> None:
    go = asyncio.Event()
    go.set()
    parts = [Partition(number, go) for number in range(2)]
    loops = loops_of(parts, Slots(1, LONG_S), interval_s=LONG_S)
    running = [asyncio.create_task(loop.run()) for loop in loops]
    async with asyncio.timeout(10):
        for loop, part in zip(loops, parts, strict=True):
            await loop.ready.wait()
            loop.offer(part.tp, [record(b"x", topic="t", partition=part.tp.partition)])
        while not all(part.batches for part in parts):
            await asyncio.sleep(0)
        for loop in loops:
            loop.stop()
        await asyncio.gather(*running)


async def test_a_slot_is_given_back_before_the_commit() -> None:
    """A commit waits for the broker, and for the batches that share its transaction."""
    go, committing = asyncio.Event(), asyncio.Event()
    go.set()
    parts = [Partition(number, go) for number in range(2)]

    async def commit(output: Output) -> None:
        committing.set()
        await asyncio.wait_for(both.wait(), 10)

    both = asyncio.Event()
    parts[0].commit = commit  # type: ignore[method-assign]
    loops = loops_of(parts, Slots(1, LONG_S))
    running = [asyncio.create_task(loop.run()) for loop in loops]
    async with asyncio.timeout(10):
        for loop, part in zip(loops, parts, strict=True):
            await loop.ready.wait()
            loop.offer(part.tp, [record(b"x", topic="t", partition=part.tp.partition)])
        await committing.wait()
        while not parts[1].batches:
            await asyncio.sleep(0)
        both.set()
        for loop in loops:
            loop.stop()
        await asyncio.gather(*running)


async def test_partitions_that_wait_for_a_slot_take_all_that_came_meanwhile() -> None:
    Partition.under_way = 0
    slots, go = Slots(2, LONG_S), asyncio.Event()
    parts = [Partition(number, go) for number in range(4)]
    loops = loops_of(parts, slots)
    running = [asyncio.create_task(loop.run()) for loop in loops]
    async with asyncio.timeout(10):
        for loop in loops:
            await loop.ready.wait()
        for offset in range(3):
            for loop, part in zip(loops, parts, strict=True):
                loop.offer(part.tp, [record(b"x", offset=offset, topic="t", partition=part.tp.partition)])
            for _ in range(10):
                await asyncio.sleep(0)
        assert Partition.under_way == 2
        go.set()
        while any(loop.buffered for loop in loops) or Partition.under_way:
            await asyncio.sleep(0)
        for loop in loops:
            loop.stop()
        await asyncio.gather(*running)
    assert [part.batches[0] for part in parts] == [1, 1, 3, 3], (
        "two began at once, two with all that had come"
    )
