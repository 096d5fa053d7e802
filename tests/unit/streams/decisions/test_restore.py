"""A partition that is taken over: served only when the flags are known, with the window of repeats that was set."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams.decisions import lane as lanes
from pointsman.streams.decisions.duplicates import Answered
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.output import Committed
from pointsman.streams.partition import Work
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names
from tests.builders import agent

NEVER = Committed({TopicPartition(Names().requests, 3): None})


@contextlib.asynccontextmanager
async def deciding(flags: FlagFollower, **settings: Any) -> AsyncIterator[Lane]:
    """The decision lane, of which nothing is started."""
    lane = lanes.decision_lane(
        settings=Settings(**settings),
        servers="127.0.0.1:1",
        names=Names(),
        partitions={},
        agents={"small": agent()},
        flags=flags,
        scorer=None,
        transactional=True,
    )
    yield lane
    await lane.consumer.stop()


def work_of(lane: Lane, number: int) -> Work:
    """What it does with one of its partitions."""
    work, _ = lane._factory(lane, number, (TopicPartition(Names().requests, number),))
    return work


async def test_a_partition_waits_for_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    read_back: list[int] = []

    async def remember(_servers: str, tp: TopicPartition, *_: Any, **__: Any) -> int:
        read_back.append(tp.partition)
        return 0

    monkeypatch.setattr(lanes, "remember", remember)
    flags = FlagFollower("127.0.0.1:1", Names().flags)
    async with deciding(flags) as lane:
        restored = asyncio.create_task(work_of(lane, 3).restore(NEVER))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not restored.done()
        assert read_back == []
        flags.current.set()
        await restored
    assert read_back == [3]


@pytest.mark.parametrize(("owned", "share"), [(1, 4_000), (4, 1_000), (5_000, 1)])
async def test_the_window_of_repeats_is_as_long_as_it_was_set(
    owned: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[TopicPartition, Answered, dict[str, Any]]] = []

    async def remember(_servers: str, tp: TopicPartition, answered: Answered, **limits: Any) -> int:
        given.append((tp, answered, limits))
        return 0

    monkeypatch.setattr(lanes, "remember", remember)
    flags = FlagFollower("127.0.0.1:1", Names().flags)
    flags.current.set()
    async with deciding(flags, duplicate_ids_max=4_000, duplicate_window_s=500) as lane:
        loops: Any = dict.fromkeys(range(owned))
        lane.loops = loops
        for _ in range(2):
            await work_of(lane, 3).restore(NEVER)
    (tp, by_number, limits), (_, by_age, _) = given
    assert (tp, limits) == (TopicPartition(Names().outcomes, 3), {"ids_max": share, "window_s": 500})

    for n in range(3 * share):
        by_number.keep({n: n}, 1_000.0)
    certain = max(1, share // 2)
    assert all(by_number.get(n) == n for n in range(3 * share - certain, 3 * share))
    assert len(by_number) <= share + 1, "and no more than its share"

    if share > 2:
        for n, now in enumerate((1_000.0, 1_250.0, 1_500.0)):
            by_age.keep({n: n}, now)
        assert by_age.get(0) == 0, "500 s later it is still known"
        for n, now in enumerate((1_501.0, 2_002.0), start=3):
            by_age.keep({n: n}, now)
        assert by_age.get(0) is None, "and not for ever"
