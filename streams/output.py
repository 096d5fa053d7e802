"""`Output`: what one batch of one partition leads to. The lane commits it whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec
from aiokafka import TopicPartition

Headers: TypeAlias = Sequence[tuple[str, bytes]]
Message: TypeAlias = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value, headers (the batch builder takes a list and nothing else)."""
AHEAD_S: Final = 86_400.0
"""So far ahead a sender's clock may be."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as it was read: aiokafka's `ConsumerRecord`, which takes five times as long to make and to free."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds; -1 where an old producer gave none."""
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    # What whoever else reads through the client (Faust) asks of a record.

    @property
    def checksum(self) -> None:
        """Its format has none."""

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key, -1 for none."""
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value, -1 for none."""
        return -1 if self.value is None else len(self.value)


def sent_at(record: Record) -> float:
    """When it was sent, in seconds since 1970. A time that is missing, or more than a day ahead, counts as now.

    One record from another century must not make all that is kept look old.
    """
    at, now = record.timestamp / 1000, time.time()
    return at if 0 <= at <= now + AHEAD_S else now


@dataclass(slots=True)
class Output:
    """Messages by topic and partition, the positions after the batch, and what to keep once it is committed."""

    messages: dict[tuple[str, int], list[Message]] = field(default_factory=dict)
    positions: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Offset of the next record to read; empty where nothing was read."""
    metadata: str = ""
    """Committed beside the offsets, at most 4,096 bytes."""
    payload: object = None
    """What a committer of another kind writes (the sink's database batch)."""
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    """Filled by the commit: the offset behind the messages, by topic and partition."""
    keep: Callable[[], None] = lambda: None
    """Called after the commit: what the batch changed in memory becomes the partition's state."""

    def add(self, topic: str, partition: int, messages: list[Message]) -> None:
        """More messages for one topic and partition."""
        if messages:
            self.messages.setdefault((topic, partition), []).extend(messages)

    def __bool__(self) -> bool:
        return bool(self.messages or self.positions)


@dataclass(frozen=True, slots=True)
class Committed:
    """What was committed last for a partition: positions (None: never) and the metadata beside them."""

    positions: Mapping[TopicPartition, int | None]
    metadata: str = ""
