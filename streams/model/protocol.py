"""What travels between client and model server: length-prefixed frames, the same on Unix sockets and TCP.

    frame     u32 length of the body, body
    body      u8 kind, then
      HELLO     JSON of `Hello`: the server's first frame on every connection
      REQUEST   u8 lane, u16 length of agent's name, u32 rows, u32 columns, u64 id, name, rows x columns f64
      RESPONSE  u8 status, u32 count, u64 id, count f64 when the status is OK, else a text in UTF-8

All numbers are little endian; a matrix lies row after row.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import starmap
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from pointsman.models.decider import Row
from pointsman.schemas.errors import PointsmanError

VERSION: Final = 1
FRAME_BYTES_MAX: Final = 32 * 1024 * 1024
"""The largest batch that settings allow, 100,000 rows, at 40 columns. More is no frame but an accident."""

_LENGTH: Final = struct.Struct("<I")
_REQUEST: Final = struct.Struct("<BBHIIQ")
_RESPONSE: Final = struct.Struct("<BBIQ")
_F64: Final = 8


class Kind(IntEnum):
    """First byte of a body."""

    HELLO = 1
    REQUEST = 2
    RESPONSE = 3


class Lane(IntEnum):
    """Whether somebody waits: served requests overtake queued shadow ones."""

    SERVED = 0
    SHADOW = 1


class Status(IntEnum):
    """What became of a request."""

    OK = 0
    ERROR = 1
    BAD_OUTPUT = 2
    NO_MODEL = 3


class ProtocolError(PointsmanError):
    """The other side sent what is no frame of ours; the connection cannot be used any further."""


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model that the server has loaded."""

    agent: str
    version: str
    sha256: str
    features: Annotated[int, Meta(ge=0, le=FRAME_BYTES_MAX // 8)]
    """Columns that a row must have; one row fits a frame."""


class Hello(Struct, frozen=True, kw_only=True):
    """What the server has. ``broken`` holds agent to reason for artifacts that could not be loaded."""

    protocol: int
    models: list[ModelInfo]
    broken: dict[str, str] = {}


class Request(Struct, frozen=True):
    """``data`` is rows x columns float64, little endian, row after row."""

    id: int
    lane: Lane
    agent: str
    rows: int
    columns: int
    data: memoryview


class Response(Struct, frozen=True):
    """``scores`` when the status is OK, else ``text`` says what happened."""

    id: int
    status: Status
    scores: list[float]
    text: str = ""


class FrameReader:
    """Cuts a stream of bytes, however it is chunked, into the bodies of frames."""

    def __init__(self, limit: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Every body that is complete now. Raises `ProtocolError` for a frame that is empty or too large."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if not 0 < length <= self._limit:
                msg = f"a frame of {length} bytes; between 1 and {self._limit} are allowed"
                raise ProtocolError(msg)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[_LENGTH.size : end])
            del self._buffer[:end]
            yield body


def frame(*parts: bytes | memoryview) -> bytes:
    """A frame around a body that is given in parts."""
    return b"".join((_LENGTH.pack(sum(map(len, parts))), *parts))


def kind_of(body: bytes) -> Kind:
    """What a body is. Raises `ProtocolError` for a kind that is not ours."""
    try:
        return Kind(body[0])
    except ValueError as error:
        msg = f"a frame of unknown kind {body[0]}"
        raise ProtocolError(msg) from error


def encode_hello(hello: Hello) -> bytes:
    """The frame that a server sends first."""
    return frame(bytes([Kind.HELLO]), msgspec.json.encode(hello))


def decode_hello(body: bytes) -> Hello:
    """Raises `ProtocolError` for another version of the protocol, or what is no hello at all."""
    try:
        hello = msgspec.json.decode(memoryview(body)[1:], type=Hello)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the server's hello cannot be read: {error}"
        raise ProtocolError(msg) from error
    if hello.protocol != VERSION:
        msg = (
            f"the server speaks protocol {hello.protocol}, this client {VERSION}; update the older of the two"
        )
        raise ProtocolError(msg)
    return hello


def pack_rows(rows: Sequence[Row], columns: int) -> bytes:
    """Rows as float64. Raises ValueError that says what is wrong with them.

    One prepared layout a row is twice as fast as any way through numpy, and checks the width as it goes.
    """
    try:
        return b"".join(starmap(struct.Struct(f"<{columns}d").pack, rows))
    except (struct.error, TypeError, OverflowError) as error:
        wrong = {len(row) for row in rows} - {columns}
        msg = (
            f"rows of {sorted(wrong)} columns, not {columns}" if wrong else f"a feature is no float: {error}"
        )
        raise ValueError(msg) from error


def encode_request(id_: int, lane: Lane, agent: str, columns: int, rows: Sequence[Row]) -> bytes:
    """The frame of a request. Raises ValueError for rows of another width, or too many of them."""
    name = agent.encode()
    size = _REQUEST.size + len(name) + len(rows) * columns * _F64
    if size > FRAME_BYTES_MAX:
        msg = f"{len(rows)} rows make a frame of {size} bytes; {FRAME_BYTES_MAX} are allowed"
        raise ValueError(msg)
    data = pack_rows(rows, columns)
    return frame(_REQUEST.pack(Kind.REQUEST, lane, len(name), len(rows), columns, id_), name, data)


def decode_request(body: bytes) -> Request:
    """Raises `ProtocolError` where the lengths do not agree."""
    if len(body) < _REQUEST.size:
        msg = f"a request of {len(body)} bytes is shorter than its head"
        raise ProtocolError(msg)
    _, lane, name_length, rows, columns, id_ = _REQUEST.unpack_from(body)
    start = _REQUEST.size + name_length
    if len(body) - start != rows * columns * _F64:
        msg = f"a request of {rows} x {columns} carries {len(body) - start} bytes"
        raise ProtocolError(msg)
    try:
        agent, lane = body[_REQUEST.size : start].decode(), Lane(lane)
    except ValueError as error:
        msg = f"the head of a request is damaged: {error}"
        raise ProtocolError(msg) from error
    return Request(id_, lane, agent, rows, columns, memoryview(body)[start:])


def encode_scores(id_: int, data: bytes | memoryview) -> bytes:
    """The frame of an answer; ``data`` is the scores as float64, little endian."""
    return frame(_RESPONSE.pack(Kind.RESPONSE, Status.OK, len(data) // _F64, id_), data)


def encode_failure(id_: int, status: Status, text: str) -> bytes:
    """The frame that says why there are no scores."""
    return frame(_RESPONSE.pack(Kind.RESPONSE, status, 0, id_), text.encode(errors="replace"))


def decode_response(body: bytes) -> Response:
    """Raises `ProtocolError` where the lengths do not agree."""
    if len(body) < _RESPONSE.size:
        msg = f"a response of {len(body)} bytes is shorter than its head"
        raise ProtocolError(msg)
    _, status, count, id_ = _RESPONSE.unpack_from(body)
    data = memoryview(body)[_RESPONSE.size :]
    if status != Status.OK:
        return Response(id_, _status(status), [], str(data, "utf-8", "replace"))
    if len(data) != count * _F64:
        msg = f"a response of {count} scores carries {len(data)} bytes"
        raise ProtocolError(msg)
    return Response(id_, Status.OK, _floats(data))


def _status(number: int) -> Status:
    try:
        return Status(number)
    except ValueError as error:
        msg = f"a response of unknown status {number}"
        raise ProtocolError(msg) from error


def _floats(data: memoryview) -> list[float]:
    floats = array("d")
    floats.frombytes(data)
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tolist()
