"""PostgreSQL's binary COPY format, as far as our rows need it.

Rows are built by hand: columns that repeat from row to row (agent, versions, flag) are packed once and kept,
which the driver's row-by-row interface cannot do. Each function returns a field: its length, then its bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from struct import Struct
from typing import Final

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Signature, no flags, no header extension."""
TRAILER: Final = b"\xff\xff"
NULL: Final = b"\xff\xff\xff\xff"

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Where PostgreSQL counts from."""
_MICROS_PER_DAY: Final = 86_400_000_000
_MICROS_MIN: Final = (datetime(1, 1, 2, tzinfo=UTC) - EPOCH).days * _MICROS_PER_DAY
_MICROS_MAX: Final = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH).days * _MICROS_PER_DAY
"""One day inside what Python's datetime can hold in any time zone: what is written can be read again."""

count: Final = Struct(">h").pack
"""Number of fields: stands before each row."""
length: Final = Struct(">i").pack
_float8: Final = Struct(">id").pack
_int8: Final = Struct(">iq").pack
_int4: Final = Struct(">ii").pack
_int2: Final = Struct(">ih").pack
_TRUE: Final = b"\0\0\0\1\1"
_FALSE: Final = b"\0\0\0\1\0"


def micros(at: datetime) -> int:
    """Microseconds since 2000-01-01 UTC, as PostgreSQL counts. A time without a zone is taken for UTC."""
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH
    exact = since.days * _MICROS_PER_DAY + since.seconds * 1_000_000 + since.microseconds
    return min(max(exact, _MICROS_MIN), _MICROS_MAX)


def clean(text: str) -> str:
    """The text without zero characters, which PostgreSQL's text cannot hold: U+FFFD stands for each."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def text(value: str | None) -> bytes:
    """A text field."""
    if value is None:
        return NULL
    raw = clean(value).encode()
    return length(len(raw)) + raw


def binary(value: bytes) -> bytes:
    """A bytea field."""
    return length(len(value)) + value


def jsonb(value: bytes) -> bytes:
    """A jsonb field of JSON bytes."""
    return length(len(value) + 1) + b"\1" + value


def float8(value: float | None) -> bytes:
    """A double precision field."""
    return NULL if value is None else _float8(8, value)


def int8(value: int) -> bytes:
    """A bigint field."""
    return _int8(8, value)


def int4(value: int) -> bytes:
    """An integer field."""
    return _int4(4, value)


def int2(value: int) -> bytes:
    """A smallint field."""
    return _int2(2, value)


def boolean(value: bool) -> bytes:
    """A boolean field."""
    return _TRUE if value else _FALSE


def timestamptz(at: datetime | None) -> bytes:
    """A timestamptz field."""
    return NULL if at is None else _int8(8, micros(at))


def stream(rows: list[bytes]) -> bytes:
    """Rows as one COPY stream."""
    return b"".join((HEADER, *rows, TRAILER))
