"""`Output`: what one batch of one partition leads to. The lane commits it whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from aiokafka import ConsumerRecord, TopicPartition

Headers: TypeAlias = Sequence[tuple[str, bytes]]
Message: TypeAlias = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value, headers (the batch builder takes a list and nothing else)."""
Record: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"


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
