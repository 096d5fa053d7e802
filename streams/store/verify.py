"""Checks the audit against its digests: the chain, each day's rows, and the contents that are still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import Struct

from pointsman.streams.store.digests import (
    NOTHING,
    Digest,
    Expiry,
    Rows,
    all_digests,
    begin,
    expiries,
    last_of_days,
    of_day,
    settled,
)
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load

_SQL: Final = load("digests.sql")
_DAY: Final = timedelta(days=1)
_EVER: Final = ("-infinity", "infinity")
STAYS: Final = "audit_deletions"
"""The digested table whose rows never go."""


class Finding(Struct, frozen=True):
    """What does not fit: of which day (None: of no one day), in which table, and how."""

    day: date | None
    table: str
    what: str


class Gone(Struct, frozen=True, kw_only=True):
    """A day whose rows were deleted by age, and how many of them are still there."""

    day: date
    at: datetime
    by: str
    retention_days: int
    left: int


class Report(Struct, frozen=True, kw_only=True):
    """What a verification looked at and found."""

    days: int
    """Days whose rows were compared."""
    rows: int
    """Their rows, of all tables."""
    contents: int
    """Contents that are still there, each compared with the commitment in its row."""
    expired: list[Gone]
    revised: list[Digest]
    """Further revisions of a day, each with its reason."""
    waiting: list[date]
    """Days that are over and have no digest yet."""
    newest: str
    """The newest digest, in hex; empty if there is none."""
    findings: list[Finding]


async def verify(
    connection: Connection, since: date | None = None, before: date | None = None, noted: str = ""
) -> Report:
    """Compares the audit with its digests, all in the caller's snapshot.

    Rows and contents of the days from ``since`` up to, without, ``before`` (default: all); the chain is always checked
    from its beginning. ``noted``: a digest in hex that was kept elsewhere and must stand in the chain.
    """
    known = await all_digests(connection)
    findings = chain(known)
    if noted and noted.lower() not in {each.digest.hex() for each in known}:
        findings.append(Finding(None, "audit_digests", f"no row has the digest {noted}"))
    gone = await expiries(connection)
    findings += [
        Finding(day, STAYS, "expired, and there is no digest of it")
        for day in gone.keys() - last_of_days(known)
    ]
    expired, days, rows = [], 0, 0
    for day, digest in sorted(last_of_days(known).items()):
        if (since and day < since) or (before and day >= before):
            continue
        now = await of_day(connection, day, digest.form)
        if day in gone:
            expired.append(_gone(gone[day], now))
            findings += differences(digest, now, (STAYS,))
            continue
        days += 1
        rows += sum(each.rows for each in now.values())
        findings += differences(digest, now, sorted(now.keys() | digest.tables.keys()))
    findings += await _older(connection, known)
    contents, strange = await _contents(connection, since, before)
    return Report(
        days=days,
        rows=rows,
        contents=contents,
        expired=expired,
        revised=[each for each in known if each.revision > 1],
        waiting=await _waiting(connection, known),
        newest=known[-1].digest.hex() if known else "",
        findings=findings + strange,
    )


def chain(known: Sequence[Digest]) -> list[Finding]:
    """What is wrong with the rows of `audit_digests` themselves: each fits its text and the one before, no day is missing."""
    found = []
    previous, number, day = NOTHING, 0, None
    for each in known:
        if each.digest != each.computed():
            found.append(Finding(each.day, "audit_digests", "the digest is not that of its own row"))
        if each.seq != number + 1 or each.previous != previous:
            what = f"row {each.seq} does not follow the one before it"
            found.append(Finding(each.day, "audit_digests", what))
        if each.revision == 1:
            if day is not None and each.day != day + _DAY:
                found.append(Finding(each.day, "audit_digests", f"does not follow the day {day}"))
            day = each.day
        previous, number = each.digest, each.seq
    return found


def differences(digest: Digest, now: Mapping[str, Rows], tables: Sequence[str]) -> list[Finding]:
    """Tables whose rows of the day are not those that were digested."""
    found = []
    for table in tables:
        was, is_ = digest.tables.get(table), now.get(table)
        if was == is_:
            continue
        if was is None or is_ is None:
            what = "is digested on one side only"
        elif was.rows != is_.rows:
            what = f"has {is_.rows} rows, its digest was made of {was.rows}"
        else:
            what = f"has other values than when its digest was made, in some of its {was.rows} rows"
        found.append(Finding(digest.day, table, what))
    return found


def _gone(expiry: Expiry, now: Mapping[str, Rows]) -> Gone:
    left = sum(rows.rows for table, rows in now.items() if table != STAYS)
    return Gone(
        day=expiry.day,
        at=expiry.known_at,
        by=expiry.deleted_by,
        retention_days=expiry.retention_days,
        left=left,
    )


async def _older(connection: Connection, known: Sequence[Digest]) -> list[Finding]:
    """Rows of before the first digest: it began with the oldest one."""
    if not known:
        return []
    cursor = await connection.execute(_SQL["older_rows"], {"before": begin(known[0].day)})
    return [
        Finding(None, name, f"has rows of before {known[0].day}, the first day with a digest")
        for (name,) in await cursor.fetchall()
    ]


async def _waiting(connection: Connection, known: Sequence[Digest]) -> list[date]:
    """Days that are settled and later than the last digest."""
    if not known:
        return []
    first, _ = await settled(connection)
    day = max(each.day for each in known) + _DAY
    return [day + _DAY * number for number in range(max(0, (first - day).days))]


async def _contents(
    connection: Connection, since: date | None, before: date | None
) -> tuple[int, list[Finding]]:
    """How many contents there are, and those that no row of the audit is committed to."""
    values = {
        "since": begin(since) if since else _EVER[0],
        "before": begin(before) if before else _EVER[1],
    }
    cursor = await connection.execute(_SQL["contents"], values)
    count, found = 0, []
    for name, rows, strange, example in await cursor.fetchall():
        count += rows
        if strange:
            what = f"{strange} of {rows} do not fit the commitment in their row, as that of {example!r}"
            found.append(Finding(None, name, what))
    return count, found
