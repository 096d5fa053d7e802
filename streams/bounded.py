"""Decompression with a bound: what a compressed batch inflates to is refused before it is held.

A size that stands in the data may refuse a batch early; it never allows one.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, TypeAlias

import cramjam
import numpy as np

from pointsman.schemas.errors import InvalidMessage

Data: TypeAlias = "bytes | memoryview"
Decoder: TypeAlias = Callable[[Data], Any]

GZIP: Final = 16 + zlib.MAX_WBITS
"""zlib's word for "with gzip's header and checksum"."""
XERIAL: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES: Final = 16
LENGTH: Final = struct.Struct(">i")
MEMBERS_MAX: Final = 16
"""Clients write one. Each copies what is behind it, so a batch of empty ones would cost the square of its size."""
FIRST_RATIO: Final = 8.0
"""JSON requests inflate to five to ten times; from then on the last batch of the codec tells."""
LEAST_BYTES: Final = 64 * 1024
OVERFLOW: Final = "failed to write whole buffer"
"""How cramjam says that the output is larger than the buffer it was given; a test holds it."""


class Refused(Exception):
    """Compressed data that is not inflated: ``invalid`` says why, ``sha256`` and ``size`` what it was."""

    def __init__(self, reason: str, expected: str, data: Data) -> None:
        super().__init__(f"{reason}: {expected}")
        self.invalid = InvalidMessage(reason, "batch", expected)
        self.sha256 = sha256(data).hexdigest()
        self.size = len(data)


class Run:
    """One partition's fetch, being taken apart: how much it may still inflate before the rest is fetched anew."""

    def __init__(self, left: int) -> None:
        self.left = left


class _Current(threading.local):
    """Whose batch is inflated now. Faust reads in a thread of its own."""

    run: Run | None = None


current = _Current()


class Decoders:
    """The four codecs of Kafka, each of which stops at ``bytes_max``."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._ratios = {"lz4": FIRST_RATIO, "zstd": FIRST_RATIO}

    def gzip(self, data: Data) -> bytes:
        """Inflate gzip, of one or more members. Raises `Refused`."""
        parts, left, rest = [], self.bytes_max, data
        for _ in range(MEMBERS_MAX):
            inflater = zlib.decompressobj(GZIP)
            try:
                part = inflater.decompress(rest, left + 1)
            except zlib.error as error:
                raise self._corrupt(data, error) from error
            if len(part) > left:
                raise self._too_large(data)
            if not inflater.eof:
                raise self._corrupt(data, "it ends too early")
            parts.append(part)
            left -= len(part)
            # Padding with zeros is no member.
            rest = inflater.unused_data.lstrip(b"\x00")
            if not rest:
                return self._done(b"".join(parts))
        raise self._corrupt(data, f"more than {MEMBERS_MAX} members")

    def snappy(self, data: Data) -> bytes:
        """Inflate snappy, bare or in the blocks that Java writes. Raises `Refused`."""
        try:
            blocks = _blocks(data) if bytes(data[: len(XERIAL)]) == XERIAL else [data]
            # A decoder writes as much as the length says or fails, so here it can be gone by.
            if sum(map(cramjam.snappy.decompress_raw_len, blocks)) > self.bytes_max:
                raise self._too_large(data)
            return self._done(b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks))
        except (cramjam.DecompressionError, ValueError) as error:
            raise self._corrupt(data, error) from error

    def lz4(self, data: Data) -> bytes:
        """Inflate LZ4 frames. Raises `Refused`."""
        return self._into("lz4", cramjam.lz4.decompress_into, data)

    def zstd(self, data: Data) -> bytes:
        """Inflate Zstandard frames. Raises `Refused`."""
        return self._into("zstd", cramjam.zstd.decompress_into, data)

    def _into(self, codec: str, inflate: Callable[[Data, Any], int], data: Data) -> bytes:
        """Into a buffer that cannot grow: first of the size to expect, then of the size allowed."""
        likely = int(2 * self._ratios[codec] * len(data)) + LEAST_BYTES
        for size in (likely, self.bytes_max) if likely < self.bytes_max else (self.bytes_max,):
            buffer = np.empty(size, np.uint8)  # not touched, so only what is written takes memory
            try:
                written = inflate(data, buffer)
            except cramjam.DecompressionError as error:
                if str(error) != OVERFLOW:
                    raise self._corrupt(data, error) from error
                continue
            self._ratios[codec] = written / len(data)
            return self._done(buffer[:written].tobytes())
        raise self._too_large(data)

    def _done(self, inflated: bytes) -> bytes:
        _spend(len(inflated))
        return inflated

    def _too_large(self, data: Data) -> Refused:
        _spend(self.bytes_max)  # so much was inflated at most, and the time for it is gone
        expected = f"a batch of at most {self.bytes_max} bytes when decompressed"
        return Refused("too_large_batch", expected, data)

    def _corrupt(self, data: Data, error: object) -> Refused:
        return Refused("corrupt_batch", f"a batch that can be decompressed ({error})", data)


def _spend(size: int) -> None:
    if current.run is not None:
        current.run.left -= size


def _blocks(data: Data) -> list[Data]:
    """The snappy blocks of a xerial stream. Raises ValueError where they are cut off."""
    blocks, at = [], XERIAL_HEADER_BYTES
    while at < len(data):
        if at + LENGTH.size > len(data):
            msg = "a block's length is cut off"
            raise ValueError(msg)
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if not 0 < size <= len(data) - at:
            msg = "a block is cut off"
            raise ValueError(msg)
        blocks.append(data[at : at + size])
        at += size
    return blocks
