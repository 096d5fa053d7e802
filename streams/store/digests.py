"""Daily digests over the audit: SHA-256 over a day's rows, each with the digest before it.

A row belongs to the UTC day of its ``known_at``, which the database sets when it is written. So a day that is over gets
no more rows but from transactions that were open across midnight: for these a digest waits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct
from psycopg.rows import dict_row

from pointsman.streams.store.errors import AuditRefused
from pointsman.streams.store.pool import Connection, value
from pointsman.streams.store.queries import load

_SQL: Final = load("digests.sql")
FORM: Final = 1
"""The newest: query ``day_1``. Days of an earlier form are verified by that."""
TABLES: Final = (
    "agent_decisions", "audit_deletions", "dead_letters", "decision_feedback", "decision_histories",
    "decision_shadows", "lane_ledger",
)  # fmt: skip
"""Digested tables, in the order in which a digest names them."""
GRACE: Final = timedelta(minutes=15)
"""After midnight. The sink's transactions end after 30 s at most; a backup's or a person's may take longer."""
NOTHING: Final = bytes(32)
"""What the first digest has before it."""
_DAY: Final = timedelta(days=1)


class Rows(Struct, frozen=True):
    """A table's rows of one day: how many, and SHA-256 over them in hex."""

    rows: int
    sha256: str


NO_ROWS: Final = Rows(0, hashlib.sha256().hexdigest())


class Digest(Struct, frozen=True, kw_only=True):
    """One row of `ml_learning.audit_digests`."""

    seq: int
    day: date
    revision: int
    form: int
    tables: dict[str, Rows]
    why: str
    previous: bytes
    known_at: datetime
    digest: bytes = b""

    def text(self) -> str:
        """What the digest is the SHA-256 of: one line a column, one a table."""
        head = (
            f"pointsman audit digest, form {self.form}",
            f"previous {self.previous.hex()}",
            f"seq {self.seq}",
            f"day {self.day.isoformat()}",
            f"revision {self.revision}",
            f"known_at {self.known_at.astimezone(UTC).isoformat(timespec='microseconds')}",
            f"why {json.dumps(self.why)}",
        )
        tables = [f"table {name} {each.rows} {each.sha256}" for name, each in sorted(self.tables.items())]
        return "".join(f"{line}\n" for line in (*head, *tables))

    def computed(self) -> bytes:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text().encode()).digest()


class Expiry(Struct, frozen=True, kw_only=True):
    """From when on the rows of a day might be deleted for their age, by whom, and by which setting."""

    day: date
    known_at: datetime
    deleted_by: str
    retention_days: int


def begin(day: date) -> datetime:
    """Midnight UTC at which a day begins."""
    return datetime.combine(day, time(), UTC)


async def all_digests(connection: Connection) -> list[Digest]:
    """Every row of `audit_digests`, in the order in which they were made."""
    return await _entries(connection, "entries")


async def expiries(connection: Connection) -> dict[date, Expiry]:
    """The days whose rows may have been deleted by age."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["expiries"])
        return {row["day"]: Expiry(**row) for row in await cursor.fetchall()}


async def of_day(connection: Connection, day: date, form: int = FORM) -> dict[str, Rows]:
    """Each table's rows of a day, as they are now. Raises `AuditRefused` for a form of a later program."""
    if f"day_{form}" not in _SQL:
        msg = f"the digest of {day} has form {form}, newer than this program: update it"
        raise AuditRefused(msg)
    values = {"since": begin(day), "before": begin(day + _DAY)}
    # Texts are digested as UTF-8, whatever the client's locale would have.
    await connection.execute(_SQL["in_utf8"])
    cursor = await connection.execute(_SQL[f"day_{form}"], values)
    found = {name: Rows(rows, bytes(digest).hex()) for name, rows, digest in await cursor.fetchall()}
    return {name: found.get(name, NO_ROWS) for name in TABLES}


async def settled(connection: Connection) -> tuple[date, str]:
    """The first UTC day that is not settled yet, and until when it is not, in words.

    A day is settled ``GRACE`` after its end, unless a transaction from before its end is still open.
    """
    now: datetime = await value(connection, _SQL["now"])
    first = (now.astimezone(UTC) - GRACE).date()
    why = f"it is settled {GRACE.seconds // 60} minutes after it is over"
    oldest: datetime | None = await value(connection, _SQL["open_since"])
    if oldest is not None and (day := oldest.astimezone(UTC).date()) < first:
        return day, f"a transaction that began at {oldest.astimezone(UTC):%Y-%m-%d %H:%M} UTC is still open"
    return first, why


async def make(connection: Connection, upto: date | None = None) -> list[Digest]:
    """Makes the digests that are missing, each in its own transaction, and returns them.

    ``upto``: the last day; raises `AuditRefused` if it is not settled. Default: all days that are. Safe to call twice,
    and from several processes at once.
    """
    first, why = await settled(connection)
    last = first - _DAY if upto is None else upto
    if last >= first:
        msg = f"{last} has no digest yet: {why}"
        raise AuditRefused(msg)
    made = []
    while new := await _next(connection, last):
        made.append(new)
    return made


async def _next(connection: Connection, last: date) -> Digest | None:
    """The digest of the next day up to ``last`` that has none."""
    async with connection.transaction():
        await connection.execute(_SQL["take_turns"])
        day = await value(connection, _SQL["last_day"])
        day = await value(connection, _SQL["first_day"]) if day is None else day + _DAY
        if day is None or day > last:
            return None
        return await _add(connection, day, 1, await of_day(connection, day), "")


async def revise(connection: Connection, day: date, why: str) -> Digest:
    """A further revision of a day whose rows are others now, with the reason.

    The earlier ones stay. Raises `AuditRefused` where the day has no digest, its rows fit the last one, or they were
    deleted by age.
    """
    async with connection.transaction():
        await connection.execute(_SQL["take_turns"])
        last = last_of_days(await all_digests(connection)).get(day)
        if last is None:
            msg = f"{day} has no digest to revise"
            raise AuditRefused(msg)
        if day in await expiries(connection):
            msg = f"the rows of {day} were deleted for their age; its digest stays as it is"
            raise AuditRefused(msg)
        now = await of_day(connection, day)
        if now == last.tables:
            msg = f"the rows of {day} fit its digest; there is nothing to revise"
            raise AuditRefused(msg)
        return await _add(connection, day, last.revision + 1, now, why)


def last_of_days(known: list[Digest]) -> dict[date, Digest]:
    """The last revision of each day."""
    return {each.day: each for each in known}


async def _add(
    connection: Connection, day: date, revision: int, tables: Mapping[str, Rows], why: str
) -> Digest:
    before = await _entries(connection, "last_entry")
    new = Digest(
        seq=before[0].seq + 1 if before else 1,
        day=day,
        revision=revision,
        form=FORM,
        tables=dict(tables),
        why=why,
        previous=before[0].digest if before else NOTHING,
        known_at=await value(connection, _SQL["now"]),
    )
    new = msgspec.structs.replace(new, digest=new.computed())
    values: tuple[Any, ...] = (
        new.seq, new.day, new.revision, new.form, msgspec.json.encode(new.tables).decode(), new.why, new.previous,
        new.digest, new.known_at,
    )  # fmt: skip
    await connection.execute(_SQL["add"], values)
    return new


async def _entries(connection: Connection, query: str) -> list[Digest]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL[query])
        return [Digest(**{**row, "tables": _tables(row["tables"])}) for row in await cursor.fetchall()]


def _tables(stored: Any) -> dict[str, Rows]:
    """As stored; none where somebody else wrote what cannot be read, which no digest then fits."""
    try:
        return msgspec.convert(stored, dict[str, Rows])
    except msgspec.ValidationError:
        return {}
