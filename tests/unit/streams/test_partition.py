"""The loop of one partition: order at the start, back-pressure, deadlines, restarts, and a stop that ends it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from pointsman.streams import partition
from pointsman.streams.errors import Fenced, PositionConflict
from pointsman.streams.output import Committed
from tests.builders import Score, record, request
from tests.unit.streams.decisions.decision_world import TP, FakeCommitter, World


def produce(world: World, count: int) -> None:
    for _ in range(count):
        id_ = f"r{len(world.broker.requests)}"
        world.broker.produce(msgspec.json.encode(request(id_)), id_.encode())


async def test_nothing_flows_before_the_partition_is_fenced_restored_and_sought() -> None:
    order: list[str] = []
    world = World(scorer=Score())

    async def restored() -> None:
        order.append("restore")
        assert (world.loop.ready.is_set(), world.source.begun) == (False, [])

    class Watched(FakeCommitter):
        async def open(self) -> Committed:
            order.append("open")
            return await super().open()

    world.restore_hook = restored
    world.loop._committer = lambda: Watched(world.broker)
    world.broker.position = 7
    world.loop.offer(TP, [object()])  # type: ignore[list-item]
    assert world.loop.buffered == 0, "what came too early is fetched again"
    world.run()
    await world.until(world.loop.ready.is_set)
    assert order == ["open", "restore"]
    assert world.source.begun == [7]
    await world.stop()


async def test_a_full_buffer_pauses_the_source_and_an_empty_one_resumes_it() -> None:
    world = World(scorer=Score(), batch_records_max=5)
    produce(world, 200)
    world.run()
    await world.until(world.loop.ready.is_set)
    buffered = []
    while len(world.broker.outcomes()) < 200:
        for _ in range(5):  # the consumer is quicker than the loop
            world.loop.offer(TP, world.source.fetch(4))
            buffered.append(world.loop.buffered)
        await asyncio.sleep(0)
    await world.stop()
    assert 2 * 5 <= max(buffered) < 2 * 5 + 4, "twice a batch, and what one fetch brings"
    assert world.source.calls[:4] == ["pause", "resume", "pause", "resume"]
    assert all(
        len(each.messages.get(("decision-outcomes", 0), [])) <= 5 for each in world.broker.transactions
    )


async def test_a_restart_forgets_that_the_source_was_paused() -> None:
    world = World(scorer=Score(), batch_records_max=2)
    world.run()
    await world.until(world.loop.ready.is_set)
    produce(world, 50)
    world.broker.fates.extend(["hang", "before", "after"])
    world.loop.offer(TP, world.source.fetch(10))
    assert world.source.calls == ["pause"]
    async with asyncio.timeout(10):
        while len(world.source.begun) < 2:
            await asyncio.sleep(0.001)
    world.loop.offer(TP, world.source.fetch(10))
    full, ended, full_again = world.source.calls
    assert full == ended == full_again == "pause", "it flows anew, so a full buffer must pause it anew"
    await world.caught_up()
    await world.stop()
    assert len(world.broker.outcomes()) == 50


async def test_an_open_that_hangs_ends_at_its_deadline() -> None:
    opened = []

    class Hanging(FakeCommitter):
        async def open(self) -> Committed:
            opened.append(1)
            if len(opened) == 1:
                await asyncio.Event().wait()
            return await super().open()

    world = World(deadline_s=0.02)
    world.loop._committer = lambda: Hanging(world.broker)
    produce(world, 1)
    await world.caught_up()
    await world.stop()
    assert len(opened) >= 2


async def test_a_stop_during_the_backoff_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "BACKOFF_S", (3_600.0,))
    world = World()
    world.broker.fates.append("open")
    world.run()
    await world.until(lambda: world.loop.failure is not None)
    await world.stop()


async def test_a_stop_during_the_interval_ends_at_once() -> None:
    world = World(summary_interval_ms=3_600_000)
    world.loop._interval_s = lambda: 3_600.0
    produce(world, 1)
    await world.caught_up()
    await world.stop()
    assert sum(arm.decisions for arm in world.broker.arms()) == 1, "what is due is still published"


async def test_a_stop_while_a_commit_hangs_ends_at_the_deadline() -> None:
    world = World(deadline_s=0.02)
    produce(world, 1)
    world.broker.fates.extend(["hang"] * 3)
    world.run()
    await world.until(lambda: len(world.broker.fates) < 3)
    await world.stop()
    assert world.broker.outcomes() == []
    world.start()
    world.broker.fates.clear()
    await world.caught_up()
    await world.stop()
    assert len(world.broker.outcomes()) == 1


async def test_a_loop_that_is_cancelled_gives_everything_back() -> None:
    closed: list[Any] = []

    class Watched(FakeCommitter):
        async def close(self) -> None:
            closed.append("committer")

    world = World(deadline_s=60)
    world.loop._committer = lambda: Watched(world.broker)
    produce(world, 1)
    world.broker.fates.append("hang")
    world.run()
    await world.until(lambda: not world.broker.fates)
    assert world.task is not None
    world.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await world.task
    assert closed == ["committer"]
    assert not world.loop.ready.is_set()
    assert world.loop.buffered == 0


async def test_a_stop_publishes_what_is_due_and_leaves_fetched_records_to_the_successor() -> None:
    world = World(scorer=Score(), summary_interval_ms=3_600_000)
    produce(world, 3)
    await world.caught_up()
    await world.until(lambda: not world.work._later.asking)
    assert world.broker.summaries() == []
    produce(world, 2)
    world.loop.offer(TP, world.source.fetch(2))
    world.loop.stop()
    await world.stop()
    assert sum(arm.decisions for arm in world.broker.arms()) == 3
    assert len(world.broker.outcomes()) == 3
    world.start()
    await world.caught_up()
    await world.stop()
    assert len(world.broker.outcomes()) == 5


async def test_failures_in_a_row_are_reported_louder_and_a_commit_ends_the_row(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(partition, "BACKOFF_S", (0.0,))
    world = World()
    produce(world, 1)
    world.broker.fates.extend(["before"] * 4)
    await world.caught_up()
    produce(world, 1)
    world.broker.fates.append("before")
    await world.caught_up()
    await world.stop()
    levels = [each.levelno for each in caplog.records if each.message == "partition begins anew"]
    assert levels == [logging.WARNING] * 3 + [logging.ERROR, logging.WARNING]
    assert world.loop.failure is None


async def test_to_begin_anew_is_no_progress_but_a_commit_and_idleness_are() -> None:
    world = World()
    world.loop.last_progress = 0.0
    world.broker.fates.extend(["open", "before", "before"])
    produce(world, 1)
    world.run()
    await world.until(lambda: len(world.source.begun) == 2)
    assert world.loop.last_progress == 0.0
    await world.caught_up()
    await world.until(lambda: world.loop.last_progress > 0.0)
    world.loop.last_progress = 0.0
    world.loop.idle()
    assert world.loop.last_progress > 0.0
    await world.stop()


async def test_an_error_of_the_work_restarts_the_partition_and_says_why() -> None:
    world = World()
    broken = [True]
    process = world.work.process

    async def fails_once(*args: Any, **kwargs: Any) -> Any:
        if broken:
            broken.pop()
            raise ValueError("a bug")
        return await process(*args, **kwargs)

    world.work.process = fails_once  # type: ignore[method-assign]
    produce(world, 2)
    world.run()
    await world.until(lambda: world.loop.failure is not None)
    assert world.loop.failure == "ValueError: a bug"
    await world.caught_up()
    await world.stop()
    assert len(world.broker.outcomes()) == 2


async def test_shadow_answers_are_published_without_new_requests() -> None:
    world = World(scorer=Score(), summary_interval_ms=3_600_000)
    produce(world, 2)
    await world.caught_up()
    await world.until(lambda: len(world.broker.shadows()) == 2)
    await world.stop()


async def test_a_summary_is_published_without_new_requests() -> None:
    world = World(summary_interval_ms=5)
    produce(world, 2)
    await world.caught_up()
    await world.until(lambda: sum(arm.decisions for arm in world.broker.arms()) == 2)
    await world.stop()


async def test_values_in_memory_are_bounded_in_bytes_in_a_batch_and_in_the_buffer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size, fetch = 100, 4
    monkeypatch.setattr(partition, "BATCH_BYTES", 5 * size)
    monkeypatch.setattr(partition, "BUFFER_BYTES", 10 * size)
    world = World(batch_records_max=1_000)
    batches: list[int] = []
    process = world.work.process

    async def measured(batch: Any, *, final: bool) -> Any:
        batches.append(sum(len(each.value) for each in batch.get(TP, [])))
        return await process(batch, final=final)

    world.work.process = measured  # type: ignore[method-assign]
    for _ in range(60):
        world.broker.produce(b"x" * size, b"k")
    world.run()
    await world.until(world.loop.ready.is_set)
    buffered = []
    async with asyncio.timeout(10):
        while world.broker.position != 60:
            for _ in range(5):  # the consumer is quicker than the loop
                world.loop.offer(TP, world.source.fetch(fetch))
                buffered.append(world.loop.buffered)
            await asyncio.sleep(0)
    await world.stop()
    assert max(batches) <= 5 * size
    assert 10 <= max(buffered) < 10 + fetch, "the buffer's bytes, and what one fetch brings"
    assert sum(batches) == 60 * size


def test_a_buffer_that_is_still_full_of_bytes_after_a_batch_stays_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition, "BATCH_BYTES", 100)
    monkeypatch.setattr(partition, "BUFFER_BYTES", 200)
    world = World(batch_records_max=1_000)
    world.loop.ready.set()
    world.loop.offer(TP, [record(b"x" * 100, offset=offset) for offset in range(5)])
    calls = []
    for _ in range(5):
        assert sum(map(len, world.loop._take().values())) == 1
        calls.append(list(world.source.calls))
    full, resumed = ["pause"], ["pause", "resume"]
    assert calls == [full, full, full, resumed, resumed]


async def test_a_record_larger_than_a_batch_is_worked_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "BATCH_BYTES", 50)
    monkeypatch.setattr(partition, "BUFFER_BYTES", 100)
    world = World(batch_records_max=1_000)
    for size in (200, 1, 1, 200, 49, 1):
        world.broker.produce(b"x" * size, b"k")
    await world.caught_up()
    await world.stop()
    assert len(world.broker.letters()) == 6


async def test_the_bytes_that_wait_are_forgotten_with_the_records_at_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition, "BATCH_BYTES", 400)
    monkeypatch.setattr(partition, "BUFFER_BYTES", 1_000)
    monkeypatch.setattr(partition, "BACKOFF_S", (0.0,))
    world = World(batch_records_max=1_000)
    for _ in range(4):
        world.broker.produce(b"x" * 400, b"k")
    world.broker.fates.extend(["before"] * 3)
    await world.caught_up()
    assert world.loop._bytes == {TP: 0}
    world.broker.produce(b"x" * 400, b"k")
    world.source.calls.clear()
    world.loop.offer(TP, world.source.fetch(1))
    assert world.source.calls == [], "one of the last 400 bytes, not of those before"
    await world.stop()


@pytest.mark.parametrize(
    ("error", "wait"),
    [(Fenced("another owner"), 1.0), (PositionConflict("moved"), 1.0), (OSError("down"), 0.1)],
)
async def test_an_owner_that_was_fenced_lets_the_group_speak_before_it_fences_back(
    error: Exception, wait: float
) -> None:
    waits: list[float] = []
    world = World()
    pause = world.loop._pause

    async def noted(seconds: float, **_: bool) -> None:
        if seconds > 0:
            waits.append(seconds)
        await pause(0)

    broken = [error]
    process = world.work.process

    async def fails_once(*args: Any, **kwargs: Any) -> Any:
        if broken:
            raise broken.pop()
        return await process(*args, **kwargs)

    world.loop._pause = noted  # type: ignore[method-assign]
    world.work.process = fails_once  # type: ignore[method-assign]
    produce(world, 1)
    await world.caught_up()
    await world.stop()
    assert waits == [wait]


async def test_what_is_to_be_offered_next_follows_the_offers_and_begins_anew_with_the_loop() -> None:
    world = World(scorer=Score())
    world.broker.position = 7
    world.run()
    await world.until(world.loop.ready.is_set)
    assert world.loop.expected == {TP: 7}
    world.loop.offer(TP, [])
    assert world.loop.expected == {TP: 7}
    world.loop.offer(TP, [record(b"x", offset=7), record(b"x", offset=11)])
    assert world.loop.expected == {TP: 12}
    world.broker.fates.append("before")
    async with asyncio.timeout(10):
        while len(world.source.begun) < 2 or not world.loop.ready.is_set():
            await asyncio.sleep(0.001)
    assert world.loop.expected == {TP: 7}
    await world.stop()


async def test_a_failure_from_outside_begins_the_partition_anew_and_loses_nothing() -> None:
    world = World(scorer=Score())
    produce(world, 3)
    await world.caught_up()
    produce(world, 2)
    world.loop.offer(TP, world.source.fetch(2))
    world.loop.fail(OSError("unreadable"))
    await world.until(lambda: len(world.source.begun) == 2)
    await world.caught_up()
    await world.stop()
    assert world.source.begun == [None, 3]
    assert [o.decision_id for o in world.broker.outcomes()] == [f"r{i}" for i in range(5)]


async def test_a_failure_after_what_was_offered_waits_until_that_is_done() -> None:
    """An unreadable batch behind readable ones: they are served first, however many steps that takes."""
    world = World(scorer=Score(), batch_records_max=2)
    world.run()
    await world.until(world.loop.ready.is_set)
    produce(world, 9)
    world.loop.offer(TP, world.source.fetch(9))
    world.loop.fail(OSError("unreadable"), after=TP)
    await world.until(lambda: len(world.source.begun) >= 2)
    assert world.source.begun[1] == 9, "all that lay before it was committed before the loop began anew"
    await world.stop()


async def test_requests_do_not_wait_for_the_interval_after_a_summary() -> None:
    world = World(model=False)
    process, alone = world.work.process, []

    async def noted(batch: Any, **options: Any) -> Any:
        if not batch:
            alone.append(batch)
        return await process(batch, **options)

    world.work.process = noted  # type: ignore[method-assign]
    world.loop._interval_s = lambda: 3_600.0 if alone else 0.0
    produce(world, 1)
    await world.caught_up()
    await world.until(world.broker.summaries, "a summary")  # type: ignore[arg-type]
    produce(world, 1)
    await world.caught_up()
    await world.stop()
    assert alone
    assert len(world.broker.outcomes()) == 2
