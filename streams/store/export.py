"""The decisions of a window as CSV or Parquet: everything about each in one row, in the order of their time.

The window is cut into pieces, so that neither side holds more than some thousands of rows, however long it is. All pieces
are read in one snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any, BinaryIO, Final

from msgspec import Struct
from psycopg import IsolationLevel, pq

from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load

_SQL: Final = load("export.sql")
PIECE_ROWS: Final = 10_000
"""As many are sorted at a time by the server, and make a row group at most."""
GROUP_BYTES: Final = 8 * 1024 * 1024
"""A row group of large inputs has fewer rows: this is what the writer holds."""
_CHUNK_ROWS: Final = 100
"""Rows that come in one step, where the driver's library can do it: an eighth of the time of one by one."""
_CHUNKS_SINCE: Final = 170_000
"""libpq 17."""

TEXT, TIME, NUMBER, WHOLE, TRUTH = "text", "time", "number", "whole", "truth"
COLUMNS: Final = {
    "decision_id": TEXT, "agent_name": TEXT, "created_at": TIME, "requested_at": TIME, "known_at": TIME,
    "status": TEXT, "revision": WHOLE, "success": TRUTH, "source": TEXT, "arm": TEXT, "prediction": TEXT,
    "confidence": NUMBER, "reason": TEXT, "action": TEXT, "needs_review": TRUTH, "fallback_reason": TEXT,
    "rules_decider": TEXT, "rules_prediction": TEXT, "rules_score": NUMBER, "rules_confidence": NUMBER,
    "rules_reason": TEXT, "ml_decider": TEXT, "ml_prediction": TEXT, "ml_score": NUMBER, "ml_confidence": NUMBER,
    "ml_reason": TEXT, "flag_name": TEXT, "flag_percentage": NUMBER, "flag_version": WHOLE,
    "pointsman_version": TEXT, "features_version": TEXT, "rules_version": TEXT, "ml_version": TEXT,
    "total_ms": NUMBER, "features_ms": NUMBER, "model_ms": NUMBER, "features": TEXT, "unit": TEXT, "input": TEXT,
    "input_base64": TEXT, "attempts": WHOLE, "first_reason": TEXT, "redriven": WHOLE, "cluster": TEXT, "topic": TEXT,
    "topic_id": WHOLE, "partition": WHOLE, "request_offset": WHOLE, "trace_id": TEXT, "content_hash": TEXT,
    "commitment": TEXT, "salt": TEXT, "shadows": TEXT, "feedback": TEXT,
}  # fmt: skip
"""The columns of both forms, in order, and what they hold."""


class Window(Struct, frozen=True):
    """Decisions made from ``since`` up to, without, ``before``; of one agent, or of all.

    ``known_at``: only what was known at that moment, so that a replay sees what could be seen then; None: all.
    """

    since: datetime
    before: datetime
    agent: str | None = None
    known_at: datetime | None = None


async def to_csv(connection: Connection, window: Window, out: BinaryIO) -> int:
    """Writes CSV with a head line, UTF-8, and returns the number of rows.

    NULL is nothing, an empty text two quotes; times have an offset; truths are t and f.
    """
    out.write((",".join(COLUMNS) + "\n").encode())
    rows = 0
    query = b"COPY (" + _SQL["decisions"] + b") TO STDOUT (FORMAT csv)"
    async with _snapshot(connection):
        for piece in await _pieces(connection, window):
            cursor = connection.cursor()
            async with cursor.copy(query, piece) as lines:
                async for block in lines:
                    out.write(block)
            rows += cursor.rowcount
    return rows


async def to_parquet(connection: Connection, window: Window, out: BinaryIO) -> int:
    """Writes Parquet and returns the number of rows. Raises `ImportError` without pyarrow."""
    import pyarrow as pa  # noqa: PLC0415 - an extra; nothing else needs it
    from pyarrow import parquet  # noqa: PLC0415

    types = {
        TEXT: pa.string(),
        TIME: pa.timestamp("us", tz="UTC"),
        NUMBER: pa.float64(),
        WHOLE: pa.int64(),
        TRUTH: pa.bool_(),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    rows = 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        async with _snapshot(connection):
            async for group in _groups(connection, window):
                arrays = [
                    pa.array(column, each.type)
                    for column, each in zip(zip(*group, strict=True), schema, strict=True)
                ]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                rows += len(group)
    return rows


async def _groups(connection: Connection, window: Window) -> AsyncIterator[list[Sequence[Any]]]:
    """Rows, some thousands at a time, and no more of them than some megabytes."""
    size = _CHUNK_ROWS if pq.version() >= _CHUNKS_SINCE else 1
    texts = [number for number, kind in enumerate(COLUMNS.values()) if kind == TEXT]
    group: list[Sequence[Any]] = []
    held = 0
    for piece in await _pieces(connection, window):
        async for row in connection.cursor().stream(_SQL["decisions"], piece, binary=True, size=size):
            group.append(row)
            held += sum(len(row[number] or "") for number in texts)
            if len(group) >= PIECE_ROWS or held >= GROUP_BYTES:
                yield group
                group, held = [], 0
    if group:
        yield group


async def _pieces(connection: Connection, window: Window) -> list[dict[str, Any]]:
    """The window in pieces that follow each other without a gap, whatever the counts by minute say."""
    values = {"agent": window.agent, "known_at": window.known_at}
    values |= {"since": window.since, "before": window.before}
    cursor = await connection.execute(_SQL["pieces"], {**values, "most": PIECE_ROWS})
    cuts = [row[0] for row in await cursor.fetchall()][1:]
    edges = [window.since, *cuts, window.before]
    return [{**values, "since": since, "before": before} for since, before in pairwise(edges)]


@asynccontextmanager
async def _snapshot(connection: Connection) -> AsyncIterator[None]:
    """All queries see the same rows, though workers write meanwhile; times and texts are written in one form."""
    await connection.execute(_SQL["in_one_form"])
    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await connection.set_read_only(True)
    async with connection.transaction():
        yield
