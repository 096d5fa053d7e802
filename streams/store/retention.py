"""What leaves the database: rows by age, and on request what a person could be known by.

The audit's rows are append-only. A day of them may go once it has a digest and its expiry is recorded; the triggers look
for that record. Contents may go at any time: their rows keep a commitment, so the digests stand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec
import psycopg
from msgspec import Struct
from psycopg import sql

from pointsman.streams.store.copyrow import clean
from pointsman.streams.store.digests import (
    Digest,
    all_digests,
    begin,
    expiries,
    last_of_days,
    of_day,
)
from pointsman.streams.store.errors import AuditRefused
from pointsman.streams.store.pool import Connection, value
from pointsman.streams.store.queries import columns, load
from pointsman.streams.store.rows import commitment, salts

_SQL: Final = load("retention.sql")
_DIGESTS: Final = load("digests.sql")
_DAY: Final = timedelta(days=1)
_EVER: Final = "-infinity"
ROWS_MAX: Final = 5_000
"""Of a transaction, and one moment's more: a tenth of a second, for which no writer waits."""
CONTENTS: Final = {"decision_contents": "created_at", "feedback_contents": "known_at"}
AUDIT: Final = (
    "decision_feedback", "decision_shadows", "decision_histories", "dead_letters", "lane_ledger", "agent_decisions",
)  # fmt: skip
"""What goes with its day. decision_places stay, numbers only: a request is never counted twice."""
DELETES: Final = {"decision_feedback": "delete_feedback", "decision_shadows": "delete_shadows"}
GUARDS: Final = {"decision_feedback": "delete_feedback_events", "decision_shadows": "delete_shadow_places"}


class Expired(Struct, frozen=True):
    """What went of one kind up to, without, a day: rows by table."""

    kind: str
    before: date
    rows: dict[str, int]


@asynccontextmanager
async def deleting(connection: Connection) -> AsyncIterator[None]:
    """In the role that may delete, where whoever logged in may take it. Raises `AuditRefused` where it lacks the right."""
    row = await (await connection.execute(_SQL["may_delete"])).fetchone()
    if row is not None and row[0]:
        await connection.execute(_SQL["delete_as"])
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        msg = f"{str(error).partition(chr(10))[0]}: the log-in role needs pointsman_privacy"
        raise AuditRefused(msg) from error


# -- by age ----------------------------------------------------------------------------------------------


async def expire(
    connection: Connection, *, audit_days: int, content_days: int, by: str, dry: bool = False
) -> list[Expired]:
    """Deletes contents, then days of the audit, that are older than so many days; 0 keeps them for ever.

    A row goes when the UTC day on which it came has been over for that long. Aggregates stay. Raises `AuditRefused`,
    before anything is deleted, where a day has no digest or its rows no longer fit it.
    """
    today: date = await value(connection, _SQL["today"])
    days = []
    if audit_days:
        days = await _audit_days(connection, today - timedelta(days=audit_days))
    found = []
    if content_days:
        found.append(
            await _contents(connection, today - timedelta(days=content_days), content_days, by, dry=dry)
        )
    if audit_days:
        found.append(
            await _audit(connection, days, today - timedelta(days=audit_days), audit_days, by, dry=dry)
        )
    return found


async def _contents(connection: Connection, before: date, days: int, by: str, *, dry: bool) -> Expired:
    rows = {}
    for table, moment in CONTENTS.items():
        span = {"since": _EVER, "before": begin(before)}
        if dry:
            rows[table] = await _count(connection, table, moment, span)
            continue
        rows[table] = 0
        for piece in await _pieces(connection, table, moment, span):
            async with connection.transaction():
                cursor = await connection.execute(_named("delete_span", table, moment), piece)
                await _record(connection, "contents", {table: cursor.rowcount}, by, before - _DAY, days)
            rows[table] += cursor.rowcount
    return Expired("contents", before, rows)


async def _audit_days(connection: Connection, before: date) -> list[Digest]:
    """The days before this one whose rows are there, in order, each with its last digest, which its rows fit."""
    known = last_of_days(await all_digests(connection))
    last = max(known, default=None)
    if last is None or last < before - _DAY:
        cursor = await connection.execute(_DIGESTS["older_rows"], {"before": begin(before)})
        if await cursor.fetchall():
            since = "no day" if last is None else f"no day after {last}"
            msg = f"{since} has a digest, and without one nothing expires: run `pointsman audit digest` first"
            raise AuditRefused(msg)
    cursor = await connection.execute(_SQL["unexpired"], {"before": before})
    days = [known[day] for (day,) in await cursor.fetchall()]
    recorded = await expiries(connection)
    for digest in days:
        if digest.day not in recorded and await of_day(connection, digest.day, digest.form) != digest.tables:
            msg = f"the rows of {digest.day} do not fit their digest, so they stay: see `pointsman audit verify`"
            raise AuditRefused(msg)
    return days


async def _audit(
    connection: Connection, days: list[Digest], before: date, kept_days: int, by: str, *, dry: bool
) -> Expired:
    rows = dict.fromkeys(AUDIT, 0)
    recorded = await expiries(connection)
    for digest in days:
        span = {"since": begin(digest.day), "before": begin(digest.day + _DAY)}
        if not dry and digest.day not in recorded:
            counts: dict[str, int] = {
                table: digest.tables[table].rows for table in AUDIT if table in digest.tables
            }
            await _record(connection, "audit", counts, by, digest.day, kept_days)
        for table in AUDIT:
            if dry:
                rows[table] += await _count(connection, table, "known_at", span)
                continue
            for piece in await _pieces(connection, table, "known_at", span):
                rows[table] += await _delete(connection, table, piece)
    return Expired("audit", before, rows)


async def _delete(connection: Connection, table: str, piece: Mapping[str, Any]) -> int:
    """Rows of a table, with their contents and their guards."""
    async with connection.transaction():
        if table == "agent_decisions":
            await connection.execute(_SQL["contents_of_decisions"], piece)
        if table not in GUARDS:
            return (await connection.execute(_named("delete_span", table, "known_at"), piece)).rowcount
        cursor = await connection.execute(_SQL[DELETES[table]], piece)
        if keys := await cursor.fetchall():
            await connection.execute(_SQL[GUARDS[table]], columns(keys))
        return cursor.rowcount


async def _pieces(
    connection: Connection, table: str, moment: str, span: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The span, cut so that none has many more than `ROWS_MAX` rows."""
    cursor = await connection.execute(_named("slices", table, moment), {**span, "most": ROWS_MAX})
    cuts: list[datetime] = [row[0] for row in await cursor.fetchall()]
    return [{"since": start, "before": end} for start, end in pairwise([*cuts, span["before"]])]


async def _count(connection: Connection, table: str, moment: str, span: Mapping[str, Any]) -> int:
    return int(await value(connection, _named("count_span", table, moment), span))


def _named(query: str, table: str, moment: str) -> sql.Composed:
    text = _SQL[query].decode()
    return sql.SQL(text).format(table=sql.Identifier("ml_learning", table), moment=sql.Identifier(moment))


# -- by request -----------------------------------------------------------------------------------------


async def forget_unit(connection: Connection, unit: str, *, by: str, dry: bool = False) -> dict[str, int]:
    """Deletes the contents of a unit's decisions and of what was said of them, at once. Returns rows by table."""
    return await _forget(connection, "unit", clean(unit), by, dry=dry)


async def forget_decision(connection: Connection, id_: str, *, by: str, dry: bool = False) -> dict[str, int]:
    """The same for the decisions of one id."""
    return await _forget(connection, "decision", clean(id_), by, dry=dry)


async def _forget(connection: Connection, kind: str, subject: str, by: str, *, dry: bool) -> dict[str, int]:
    query = f"count_{kind}" if dry else f"forget_{kind}"
    async with connection.transaction():
        row = await (await connection.execute(_SQL[query], {kind: subject})).fetchone()
        assert row is not None, "counts are one row"
        rows = dict(zip(CONTENTS, row, strict=True))
        if any(rows.values()) and not dry:
            await _record(connection, kind, rows, by, subject=subject)
    return rows


async def _record(
    connection: Connection,
    kind: str,
    rows: Mapping[str, int],
    by: str,
    day: date | None = None,
    days: int | None = None,
    subject: str | None = None,
) -> None:
    (salt,) = salts(1)
    values = {
        "kind": kind,
        "day": day,
        "days": days,
        "salt": None if subject is None else salt,
        "subject": None if subject is None else commitment(salt, subject, b""),
        "deleted": msgspec.json.encode(rows).decode(),
        "by": clean(by),
    }
    await connection.execute(_SQL["record"], values)
