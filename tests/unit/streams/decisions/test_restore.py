"""A partition that is taken over is served only when the flags are known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams.decisions import lane as lanes
from pointsman.streams.flags import FlagFollower
from pointsman.streams.output import Committed
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names
from tests.builders import agent


async def test_a_partition_waits_for_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    read_back: list[int] = []

    async def remember(_servers: str, tp: TopicPartition, *_: Any, **__: Any) -> int:
        read_back.append(tp.partition)
        return 0

    monkeypatch.setattr(lanes, "remember", remember)
    names = Names()
    flags = FlagFollower("127.0.0.1:1", names.flags)
    lane = lanes.decision_lane(
        settings=Settings(),
        servers="127.0.0.1:1",
        names=names,
        partitions={},
        agents={"small": agent()},
        flags=flags,
        scorer=None,
        transactional=True,
    )
    tp = TopicPartition(names.requests, 3)
    work, _ = lane._factory(lane, 3, (tp,))
    restored = asyncio.create_task(work.restore(Committed({tp: None})))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not restored.done()
    assert read_back == []
    flags.current.set()
    await restored
    assert read_back == [3]
