"""A follower is current once it has read every partition up to where it ended at the start, and not before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.schemas.codec import encode
from pointsman.schemas.control import Flag
from pointsman.streams import flags as module
from pointsman.streams.flags import FlagFollower
from tests.builders import record

TOPIC = "control-flags"
FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


def flag(name: str) -> bytes:
    changed_at = datetime(2026, 1, 1, tzinfo=UTC)
    return encode(Flag(name=name, version=1, percentage=5, seed="s", changed_at=changed_at, changed_by="me"))


class Topic:
    """The consumer of a topic of two partitions: a record at each poll, in the order given."""

    def __init__(self, follower: FlagFollower, order: Iterable[TopicPartition]) -> None:
        self.follower = follower
        self.order = list(order)
        self.ends = {tp: self.order.count(tp) for tp in (FIRST, SECOND)}
        self.at = dict.fromkeys(self.ends, 0)
        self.current: list[bool] = []
        """What the follower said of itself at each poll."""
        self._fetcher = SimpleNamespace(error_future=SimpleNamespace(done=lambda: False))

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.current.append(self.follower.current.is_set())
        if not self.order:
            self.follower._anew.set()
            return {}
        tp = self.order.pop(0)
        self.at[tp] += 1
        return {tp: [record(flag(f"flag-{tp.partition}-{self.at[tp]}"), topic=TOPIC)]}

    async def position(self, tp: TopicPartition) -> int:
        return self.at[tp]

    async def end_offsets(self, _partitions: Any) -> dict[TopicPartition, int]:
        return self.ends

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == [FIRST, SECOND]

    async def seek_to_beginning(self, *_partitions: TopicPartition) -> None:
        assert self.at == {FIRST: 0, SECOND: 0}

    def last_poll_timestamp(self, _tp: TopicPartition) -> None:
        return None

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@pytest.mark.parametrize(
    "order", [[FIRST, FIRST, SECOND], [SECOND, FIRST, FIRST], [FIRST, SECOND, FIRST], []]
)
async def test_a_follower_is_current_once_all_that_was_there_is_read_and_not_before(
    order: list[TopicPartition], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = FlagFollower("", TOPIC)
    topic = Topic(follower, order)

    async def partitions(_servers: str, _topic: str) -> list[int]:
        return [0, 1]

    monkeypatch.setattr(module, "partition_numbers", partitions)
    monkeypatch.setattr(module.reading, "consumer", lambda **_options: topic)
    await follower._read()
    assert topic.current == [False] * len(order) + [bool(order)]
    assert follower.current.is_set()
    assert len(follower.flags.all()) == len(order)
