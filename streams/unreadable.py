"""`Unreadable`: the one record that stands for a batch whose records cannot be had."""

from __future__ import annotations

import msgspec
from aiokafka import TopicPartition

from pointsman.schemas.errors import InvalidMessage
from pointsman.streams.output import Record


class Unreadable(Record, frozen=True, kw_only=True, gc=False):
    """Without key and value, at the batch's last offset: whoever is done with it goes on behind the batch."""

    error: InvalidMessage
    """Reason, field and what was expected, as the dead letter says them."""
    first_offset: int
    sha256: str | None
    """Of the compressed records; None where they were decompressed and then made no sense."""
    size: int | None
    """Bytes of the compressed records."""
    crc32c: int | None
    """The batch's checksum, which was right; None for the formats before version 2."""

    def description(self) -> bytes:
        """What the dead letter holds in the place of bytes: hash, length and place, as JSON."""
        return msgspec.json.encode(
            {
                "sha256": self.sha256,
                "crc32c": None if self.crc32c is None else f"{self.crc32c:08x}",
                "bytes": self.size,
                "topic": self.topic,
                "partition": self.partition,
                "offset": self.first_offset,
                "last_offset": self.offset,
                "records": self.offset - self.first_offset + 1,
            }
        )


def unreadable(
    tp: TopicPartition,
    offsets: tuple[int, int],
    error: InvalidMessage,
    *,
    sha256: str | None,
    size: int | None,
    crc32c: int | None,
    timestamp: int,
) -> Unreadable:
    """The record for a batch with these first and last offsets; ``timestamp`` in milliseconds."""
    first, last = offsets
    return Unreadable(
        tp.topic,
        tp.partition,
        last,
        timestamp,
        0,
        None,
        None,
        error=error,
        first_offset=first,
        sha256=sha256,
        size=size,
        crc32c=crc32c,
    )


def error_of(record: Record, found: InvalidMessage) -> InvalidMessage:
    """What is wrong with a record: of one that stands for a batch, the batch's error instead of the one found."""
    return record.error if isinstance(record, Unreadable) else found


def place_of(record: Record) -> tuple[int, bytes | None]:
    """First offset and value for the dead letter."""
    if isinstance(record, Unreadable):
        return record.first_offset, record.description()
    return record.offset, record.value
