"""aiokafka's produce requests, joined once: its own schemas copy the messages of a request six times."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from aiokafka.protocol import produce
from aiokafka.protocol.types import Schema, String

Topics: TypeAlias = Sequence[tuple[str, Sequence[tuple[int, "bytes | bytearray"]]]]

VERSIONS: Final = tuple(getattr(produce, f"ProduceRequest_v{number}") for number in range(3, 8))
"""Those with a transactional id, which all look alike."""
_ACKS_TIMEOUT: Final = struct.Struct(">hi")
_COUNT: Final = struct.Struct(">i")
_PARTITION_SIZE: Final = struct.Struct(">ii")
_text: Final = String("utf-8").encode


class JoinedOnce(Schema):  # type: ignore[misc]
    """The schema of a produce request of these versions."""

    def encode(self, item: tuple[str | None, int, int, Topics]) -> bytes:
        """The request's bytes, the same as the client's."""
        transactional_id, acks, timeout_ms, topics = item
        pieces: list[bytes | bytearray] = [
            _text(transactional_id),
            _ACKS_TIMEOUT.pack(acks, timeout_ms),
            _COUNT.pack(len(topics)),
        ]
        for topic, partitions in topics:
            pieces += (_text(topic), _COUNT.pack(len(partitions)))
            for partition, records in partitions:
                pieces += (_PARTITION_SIZE.pack(partition, len(records)), records)
        return b"".join(pieces)


def install() -> None:
    """For all producers of this process. Safe to call again."""
    for version in VERSIONS:
        fields: Any = zip(version.SCHEMA.names, version.SCHEMA.fields, strict=True)
        version.SCHEMA = JoinedOnce(*fields)
