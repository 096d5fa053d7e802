"""`Snapshot`: a local copy of a partition's changelog, so that a restore need not read all of it.

A file of blocks: records that were committed, the offsets before and behind them, the time, and a checksum over all of it.
A block is appended after its commit, so what the file holds is committed. A kill in the middle of a write leaves a block
whose checksum does not fit: what lies before it is good, and it is cut off before more is appended. A block counts where
the one before it ended, so one that is missing costs all behind it, and leaves no hole. The file is only trusted for the
topic that it is of, up to an offset that the topic has, and while the topic still has what was taken away since (its
tombstones).
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pointsman.schemas.topics import TOMBSTONES_MS
from pointsman.streams.output import Message
from pointsman.streams.state.changelog import Pair

logger = logging.getLogger(__name__)

MAGIC: Final = b"pointsman state 2\n"
TOMBSTONES_S: Final = TOMBSTONES_MS / 1000
"""The changelog keeps tombstones so long at least (`delete.retention.ms` of the topic)."""
TRUSTED_S: Final = TOMBSTONES_S / 2
"""An older file is read no more: something that was taken away might come back with it."""
WASTE: Final = 2.0
"""A file with so many times as many records as there are is written anew at the next restore."""
_BLOCK: Final = struct.Struct(">IIqqq")
"""Bytes of the payload, CRC-32 of the rest of the block, offsets before and behind its records, milliseconds since 1970."""
_RECORD: Final = struct.Struct(">Ii")
"""Bytes of key and value; -1: taken away."""
_PARTS: Final = -(2**62)
"""From here on blocks are numbered that are parts of a whole."""
_PIECE: Final = 10_000
"""Records of a block where a file is written anew."""


class Snapshot:
    """One partition's file. Its errors are never the lane's: it says so once, and works without."""

    def __init__(self, folder: Path, of: str, partition: int) -> None:
        """``of``: what differs where it holds something else: Kafka's id of the topic, and the agents that are loaded."""
        self.path = folder / f"{of}-{partition}.state"
        self._partition = partition
        self._file: BinaryIO | None = None
        self._good = 0
        """Bytes of the file, as far as its blocks fit."""
        self._reached = 0
        """The offset up to which it holds all, while it is appended to."""

    def blocks(self, end: int) -> Iterator[tuple[int, list[Pair]]]:
        """Each block's offset and records, as far as the file can be trusted for a changelog that ends at ``end``.

        Where it cannot be trusted there is nothing. A block that an owner who was late has written is passed over.
        """
        self._good = 0
        try:
            with self.path.open("rb") as file:
                # Read twice: first whether all of it fits, and then its records, of which there may be more than is good to
                # have in memory at once.
                found = list(_chained(_blocks(file)))
                if not found or not self._fits(found[-1], end):
                    return
                for block in found:
                    again = _read(file, block.at)
                    if again is None or again[0] != block:
                        return  # somebody else has cut it off meanwhile
                    self._good = block.behind
                    yield block.end, list(_records(again[1]))
        except OSError:
            return

    def _fits(self, last: _Block, end: int) -> bool:
        # One from the future is of a clock that was wrong then or is now: as little is known of its age.
        if abs(time.time() - last.moment / 1000) > TRUSTED_S:
            logger.info("a local snapshot is too old", extra={"file": str(self.path)})
            return False
        if last.end > end:
            logger.warning("a local snapshot is of another log", extra={"file": str(self.path)})
        return 0 <= last.end <= end  # below 0 the last of its parts is damaged

    def begin(self, live: Iterable[Pair] | None, offset: int) -> None:
        """Append from ``offset`` on, up to which the file then holds all. ``live``: everything, to be written anew in the place of what is there.

        None: what `blocks` gave stays, and what lies behind that is cut off.
        """
        try:
            self.close()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            if live is not None:
                self._write_anew(live, offset)
            self._file = self.path.open("ab", buffering=0)
            if live is None:
                if self._file.tell() < self._good:
                    msg = "it is no more what it was"
                    raise OSError(msg)
                self._file.truncate(self._good)
            self._reached = offset
        except OSError as error:
            self._give_up(error)

    def append(self, records: Sequence[Message], offset: int) -> None:
        """Records that were committed, and the offset behind them."""
        if self._file is None:
            return
        block = _block([(key or b"", value) for key, value, _ in records], self._reached, offset)
        try:
            if offset < self._reached:
                msg = f"records end at {offset}, and others at {self._reached} before them"
                raise OSError(msg)
            if self._file.write(block) != len(block):
                msg = "it was written in part"
                raise OSError(msg)
            self._reached = offset
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """No more is appended."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _sweep(self) -> None:
        """Files of the same partition that nobody would trust any more: of other agents or another topic, or half written."""
        folder, names = self.path.parent, (f"*-{self._partition}.state", f"*-{self._partition}.state.*.part")
        for other in (each for name in names for each in folder.glob(name)):
            with contextlib.suppress(OSError):  # what becomes of others' files is no matter of this one's
                if other != self.path and time.time() - other.lstat().st_mtime > TRUSTED_S:
                    other.unlink()

    def _write_anew(self, live: Iterable[Pair], offset: int) -> None:
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                file.write(MAGIC)
                number, piece = _PARTS, list[Pair]()
                for record in live:
                    piece.append(record)
                    if len(piece) == _PIECE:
                        # Only the last block says how far it is: with fewer of them it would not be all.
                        file.write(_block(piece, number, number + 1))
                        number, piece = number + 1, []
                file.write(_block(piece, number, offset))
            part.replace(self.path)
        finally:
            part.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        """Nothing is appended behind what is missing."""
        logger.warning("no local snapshot", extra={"file": str(self.path), "error": repr(error)})
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _block(records: Iterable[Pair], start: int, end: int) -> bytes:
    payload = b"".join(
        _RECORD.pack(len(key), -1 if value is None else len(value)) + key + (value or b"")
        for key, value in records
    )
    rest = struct.pack(">qqq", start, end, int(time.time() * 1000)) + payload
    return struct.pack(">II", len(payload), zlib.crc32(rest)) + rest


class _Block(NamedTuple):
    """Where a block lies in the file, the offsets before and behind its records, and when it was written (ms since 1970)."""

    at: int
    behind: int
    """Where the file goes on."""
    start: int
    end: int
    moment: int


def _chained(blocks: Iterable[_Block]) -> Iterator[_Block]:
    """Each that goes on where those before it ended."""
    reached = _PARTS
    for block in blocks:
        if block.start <= reached <= block.end:
            reached = block.end
            yield block


def _blocks(file: BinaryIO) -> Iterator[_Block]:
    """Each block up to the first that is damaged."""
    if file.read(len(MAGIC)) != MAGIC:
        return
    at = len(MAGIC)
    while (found := _read(file, at)) is not None:
        block, _ = found
        yield block
        at = block.behind


def _read(file: BinaryIO, at: int) -> tuple[_Block, bytes] | None:
    """The block that begins there, and its payload; None where it is damaged or the file ends."""
    file.seek(at)
    head = file.read(_BLOCK.size)
    if len(head) < _BLOCK.size:
        return None
    size, checksum, start, end, moment = _BLOCK.unpack(head)
    behind = at + len(head) + size
    if behind > os.fstat(file.fileno()).st_size:  # also where the size is what is damaged
        return None
    payload = file.read(size)
    if len(payload) != size or zlib.crc32(payload, zlib.crc32(head[8:])) != checksum:
        return None
    return _Block(at, behind, start, end, moment), payload


def _records(payload: bytes) -> Iterator[Pair]:
    at = 0
    while at < len(payload):
        key, value = _RECORD.unpack_from(payload, at)
        at += _RECORD.size
        yield payload[at : at + key], None if value < 0 else payload[at + key : at + key + value]
        at += key + max(0, value)
