"""Delay topics in a lane: what waits is no lag, and they are read only beside the requests of their partition."""

from __future__ import annotations

import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException

from tests.builders import record
from tests.unit.streams.test_lane import World, until

LEAD, WAITS = TopicPartition("t", 1), TopicPartition("u", 1)
LONG_S = 3_600.0


def made() -> World:
    return World(stalled_after_s=30, lane_options={"delays_s": {"u": LONG_S}})


async def test_a_delay_topic_is_read_only_by_whoever_has_its_requests() -> None:
    world = made()
    world.lane.own([TopicPartition("u", 2)])
    assert world.lane.loops == {}
    assert world.consumer.paused == {TopicPartition("u", 2)}, "nothing flows, and nobody is fenced"
    assert world.lane.health()["ready"]
    await world.lane.release()


@pytest.mark.parametrize("led", [True, False])
async def test_another_topic_of_a_lane_that_is_led_rests_without_its_requests_though_nothing_waits(
    led: bool,
) -> None:
    """As where workers run side by side of which some have agents that learn from feedback."""
    world = World(stalled_after_s=30, lane_options={"led": led})
    world.lane.own([TopicPartition("u", 2)])
    assert list(world.lane.loops) == ([] if led else [2])
    await world.lane.release()


async def test_requests_lead_and_are_served_without_their_delay_topics_too() -> None:
    world = made()
    await world.own(WAITS, LEAD, TopicPartition("t", 2))
    assert {n: loop.partitions for n, loop in world.lane.loops.items()} == {
        1: (LEAD, WAITS),
        2: (TopicPartition("t", 2),),
    }
    await world.lane.release()


async def test_what_waits_is_neither_lag_nor_a_stall_however_much_it_is() -> None:
    world = made()
    await world.own(LEAD, WAITS)
    loop = world.lane.loops[1]
    now = round(time.time() * 1000)
    loop.offer(WAITS, [record(b"x", offset=n, topic="u", partition=1, timestamp=now) for n in (5, 6)])
    world.consumer.at[WAITS] = 7
    world.consumer.stable = {LEAD: 5, WAITS: 1_000}
    loop.last_progress -= 31
    world.consumer.heard_ms = time.time() * 1000
    await world.lane.measure()
    health = world.lane.health()
    assert (health["lag_records"], health["waiting_records"], health["healthy"]) == (0, 2 + 993, True)
    assert world.idle[1].got == []
    world.consumer.stable[LEAD] = 9  # requests that nobody works on are lag as ever
    loop.last_progress -= 31
    await world.lane.measure()
    health = world.lane.health()
    assert (health["lag_records"], health["stalled_partitions"]) == (4, [1])
    await world.lane.release()


async def test_what_is_due_and_not_worked_on_is_lag() -> None:
    world = made()
    await world.own(LEAD, WAITS)
    loop = world.lane.loops[1]
    old = [record(b"x", offset=n, topic="u", partition=1, timestamp=1) for n in (5, 6)]
    loop.offer(WAITS, old)
    assert (loop.waiting, loop.holds(WAITS)) == (0, False)
    world.consumer.stable = {LEAD: 5, WAITS: 10}
    world.consumer.at[WAITS] = 7
    await world.lane.measure()
    assert (world.lane.lags[1], world.lane.waiting[1]) == (2 + 3, 0)
    await world.lane.release()


async def test_a_restart_forgets_what_waited_and_reads_it_anew() -> None:
    world = made()
    await world.own(LEAD, WAITS)
    loop = world.lane.loops[1]
    now = round(time.time() * 1000)

    def offer(*times: int) -> None:
        loop.offer(
            WAITS,
            [
                record(b"x", offset=5 + n, topic="u", partition=1, timestamp=each)
                for n, each in enumerate(times)
            ],
        )

    offer(1, now)
    loop.fail(OSError("unreadable"))
    await until(lambda: not loop.ready.is_set())
    await until(loop.ready.is_set)
    assert (loop.buffered, loop.waiting) == (0, 0)
    world.idle[1].got.clear()
    offer(now, now)
    assert (loop.buffered, loop.waiting, loop.holds(WAITS)) == (2, 2, True)
    assert loop._take() == {}
    await world.lane.release()


async def test_what_was_taken_is_due_no_more_and_the_rest_waits_on() -> None:
    world = made()
    await world.own(LEAD, WAITS)
    loop = world.lane.loops[1]
    now = round(time.time() * 1000)
    for round_ in range(3):
        times = [1, 1] if round_ < 2 else [1, now]
        offsets = [5 + 2 * round_, 6 + 2 * round_]
        loop.offer(
            WAITS,
            [
                record(b"x", offset=at, topic="u", partition=1, timestamp=each)
                for at, each in zip(offsets, times, strict=True)
            ],
        )
        await until(lambda: loop.buffered == loop.waiting)
    assert world.idle[1].got == [5, 6, 7, 8, 9]
    assert (loop.buffered, loop.waiting) == (1, 1)
    assert loop.failure is None
    await world.lane.release()


async def test_requests_and_what_waited_share_one_batch_and_what_waited_goes_first() -> None:
    world = made()
    await world.own(LEAD, WAITS)
    loop = world.lane.loops[1]
    loop._batch_max = 5
    loop.offer(LEAD, [record(b"x", offset=n, topic="t", partition=1) for n in range(5, 10)])
    loop.offer(WAITS, [record(b"x", offset=n, topic="u", partition=1, timestamp=1) for n in range(5, 8)])
    taken = [{tp: len(records) for tp, records in loop._take().items()} for _ in range(3)]
    assert taken == [{WAITS: 3, LEAD: 2}, {LEAD: 3}, {}]
    await world.lane.release()


@pytest.mark.parametrize(
    ("interval_ms", "apart_ms"), [(0, 0), (20, 20 / 3), (45, 15), (300, 20), (10_000, 20)]
)
def test_fetches_are_a_third_of_the_commit_interval_apart_and_never_long(
    interval_ms: int, apart_ms: float
) -> None:
    assert World(commit_interval_ms=interval_ms).lane._apart_s() == pytest.approx(apart_ms / 1000)


async def test_the_fetches_of_a_lane_keep_that_distance_but_not_after_an_error() -> None:
    world = World(commit_interval_ms=60)  # so they are 20 ms apart
    sent: list[float] = []

    async def send(*_arguments: object) -> None:
        sent.append(time.monotonic())

    world.consumer._fetcher._proc_fetch_request = send
    async with world.running():
        began = time.monotonic()
        for _ in range(2):
            await world.consumer._fetcher._proc_fetch_request(None, 1, None)
        assert sent[1] - began >= 0.0199
        world.consumer.fetches.append(CorruptRecordException("spoiled"))
        await until(lambda: not world.consumer.fetches)
        assert world.lane._fetches._sent == {}, "what was not offered is looked for at once"
