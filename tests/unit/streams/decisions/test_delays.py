"""What the settings say is what the decision lane's partitions do: delays, and batches under way."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from aiokafka import TopicPartition

from pointsman.streams.decisions.lane import decision_lane
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names
from tests.builders import agent, record

DELAYS_MS = (100_000, 250_000, 777_000)


def lane_of(settings: Settings) -> Lane:
    names = Names.of(settings)
    return decision_lane(
        settings=settings,
        servers="127.0.0.1:1",
        names=names,
        partitions={},
        agents={"small": agent()},
        flags=FlagFollower("127.0.0.1:1", names.flags),
        scorer=None,
        transactional=True,
    )


async def test_each_delay_topic_waits_the_delay_that_the_setting_says() -> None:
    settings = Settings(retry_delays_ms=DELAYS_MS)
    lane, names = lane_of(settings), Names.of(settings)
    inputs = [TopicPartition(topic, 3) for topic in (names.requests, *names.retries)]
    lane._start_loop(3, tuple(inputs))
    loop, task = lane.loops[3], lane._running[3]
    task.cancel()  # it would look for a broker
    await asyncio.wait({task})
    loop.ready.set()
    for tp in inputs:
        # A record of now; and one of long ago, behind it, which waits for it.
        now_ms = round(time.time() * 1000)
        loop.offer(
            tp,
            [
                record(b"x", offset=at, topic=tp.topic, partition=3, timestamp=each)
                for at, each in enumerate((now_ms, 1))
            ],
        )
    assert list(loop._take()) == [inputs[0]], "requests wait for nothing, and what waits is not taken early"
    assert loop.waiting == 2 * len(DELAYS_MS)
    left_s = [loop._dues[tp].left() for tp in inputs[1:]]
    assert left_s == [pytest.approx(each / 1000, abs=30) for each in DELAYS_MS]


async def test_the_partitions_share_as_many_slots_as_the_setting_says() -> None:
    lane = lane_of(Settings(batches_at_once_max=3))
    for number in range(5):
        lane._start_loop(number, (TopicPartition("decision-requests", number),))
    tasks = list(lane._running.values())
    for task in tasks:
        task.cancel()  # they would look for a broker
    await asyncio.wait(tasks)
    (slots,) = {loop._slots for loop in lane.loops.values()}
    assert slots is not None
    slots._lease_s = 60.0  # else a machine that rests for a moment would give one back
    async with contextlib.AsyncExitStack() as held:
        for _ in range(3):
            await asyncio.wait_for(held.enter_async_context(slots.one()), 1)
        assert slots._free.locked()
