"""`RecordBatch`: messages in the form in which a broker stores them (record batch, version 2), for aiokafka's producer.

The client's own builder grows its buffer message by message, copies it on the way, and reckons the checksum a table's
entry at a time. Here all pieces of a batch are joined once, and the checksum takes the processor's instruction. The bytes
are the same, which a test holds; compressed batches are still the client's.

https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from crc32c import crc32c

from pointsman.streams.output import Message

BATCH_BYTES: Final = 900_000
"""Below the broker's default `message.max.bytes` (1,048,588) with room for batch and record headers."""
TRANSACTIONAL: Final = 16
"""Of the attributes; the others say how it is compressed and whose its times are."""
_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, bytes from here on, leader epoch, magic, checksum, attributes, last offset, first and greatest time, producer
id, epoch, first sequence number, count."""
_CHECKED_FROM: Final = 21
"""The checksum covers what stands behind it."""
_SIZED_FROM: Final = 12


def varint(number: int) -> bytes:
    """Zigzag, seven bits a byte, the lowest first."""
    left = number * 2 if number >= 0 else -number * 2 - 1
    found = bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    found.append(left)
    return bytes(found)


_VARINTS: Final = [varint(number) for number in range(8192)]
"""Those of one and two bytes: lengths and numbers of nearly all records."""
_FRONTS: Final = [b"\0\0" + number for number in _VARINTS]
"""What a record begins with behind its length: attributes and the time since the first record, both nothing, its number."""
_LENGTHS_BYTES: Final = 24
"""What a record takes beside its key, value and headers, at most."""
_NONE: Final = varint(-1)
"""The length of what is not there."""


class RecordBatch:
    """Records of one batch. To the client it is one of its own `BatchBuilder`, closed from the start."""

    def __init__(self, pieces: list[bytes], count: int, now_ms: int, *, transactional: bool) -> None:
        """``pieces``: of ``count`` records, behind one empty place for the head; ``now_ms``: the time of them all."""
        self._pieces = pieces
        self._count = count
        self._now_ms = now_ms
        self._attributes = TRANSACTIONAL if transactional else 0
        self._state = (-1, -1, 0)
        self._buffer: bytearray | None = None

    # -- what the client asks of a builder ---------------------------------------------------------

    def record_count(self) -> int:
        """Records in it."""
        return self._count

    def closed(self) -> bool:
        """Nothing more is added."""
        return True

    def close(self) -> None:
        """It is."""

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Known only when it is sent."""
        self._state = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """The bytes; once made they stay, for a batch that is sent again must be the same."""
        if self._buffer is None:
            self._pieces[0] = bytes(_HEAD.size)
            self._buffer = buffer = bytearray().join(self._pieces)
            self._pieces = []
            _HEAD.pack_into(
                buffer,
                0,
                0,  # the broker's to say, as is the epoch
                len(buffer) - _SIZED_FROM,
                -1,
                2,
                0,
                self._attributes,
                self._count - 1,
                self._now_ms,
                self._now_ms,
                *self._state,
                self._count,
            )
            struct.pack_into(">I", buffer, _CHECKED_FROM - 4, crc32c(memoryview(buffer)[_CHECKED_FROM:]))
        return self._buffer


def record_batches(messages: Sequence[Message], *, transactional: bool) -> Iterator[RecordBatch]:
    """Record batches of all messages, in order, each as large as may be; one message may be larger."""
    now_ms = time.time_ns() // 1_000_000
    varints, known = _VARINTS, len(_VARINTS)
    pieces, count, size = [b""], 0, _HEAD.size
    for key, value, headers in messages:
        long, wide = (-1 if key is None else len(key)), (-1 if value is None else len(value))
        tail = b"\0" if not headers else _headers(headers)
        size += long + wide + len(tail) + _LENGTHS_BYTES
        if size > BATCH_BYTES and count:
            yield RecordBatch(pieces, count, now_ms, transactional=transactional)
            pieces, count, size = [b""], 0, _HEAD.size + long + wide + len(tail) + _LENGTHS_BYTES
        # Up to the value; four small pieces are added up in half the time of a format.
        front = (
            (_FRONTS[count] if count < known else b"\0\0" + varint(count))
            + (varints[long] if 0 <= long < known else varint(long))
            + (key or b"")
            + (varints[wide] if 0 <= wide < known else varint(wide))
        )
        length = len(front) + (wide if value else 0) + len(tail)
        pieces += (
            varints[length] if length < known else varint(length),
            front,
            value or b"",
            tail,
        )
        count += 1
    if count:
        yield RecordBatch(pieces, count, now_ms, transactional=transactional)


def _headers(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    some = list(headers)
    pieces = [varint(len(some))]
    for name, value in some:
        encoded = name.encode()
        pieces += (varint(len(encoded)), encoded)
        pieces += (_NONE,) if value is None else (varint(len(value)), value)
    return b"".join(pieces)
