"""Checks that nothing was lost or counted twice: ledger against audit, aggregates against audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec import Struct
from psycopg.rows import dict_row

from pointsman.streams.store import rollup
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load

_SQL: Final = load("check.sql")


class Difference(Struct, frozen=True):
    """Something that should be equal and is not: ``what`` it is, ``where``, and both figures."""

    what: str
    where: str
    expected: Any
    found: Any


_AGGREGATES: Final = (
    "minutes", "fallbacks", "latency", "truths", "labels", "scores", "confidences", "flags", "agreements",
)  # fmt: skip
EVER_S: Final = 100 * 365 * 86_400.0


async def ledger_check(
    connection: Connection, grace_s: float = 60.0, within_s: float = EVER_S
) -> list[Difference]:
    """Differences between the lanes' ledgers and the audit; empty if every request is accounted for.

    Counts of ranges younger than ``grace_s`` are not looked at: their outcomes may still be under way. Nor
    is anything that was written more than ``within_s`` ago.
    """
    differences = []
    for row in await _rows(connection, _SQL["ledger_gaps"], {"within_s": within_s}):
        what = "hole between ranges" if row["previous_end"] < row["start_offset"] else "overlapping ranges"
        differences.append(Difference(what, _place(row), row["previous_end"], row["start_offset"]))
    for row in await _rows(connection, _SQL["ledger_counts"], {"grace_s": grace_s, "within_s": within_s}):
        where = f"{_place(row)} {row['start_offset']} to {row['end_offset']}"
        for what in ("outcomes", "dead_letters"):
            expected, found = row[f"{what}_expected"], row[f"{what}_found"]
            if expected != found:
                differences.append(Difference(what.replace("_", " "), where, expected, found))
        if row["unaccounted"]:
            differences.append(Difference("unaccounted requests", where, 0, row["unaccounted"]))
    return differences


async def aggregates_check(connection: Connection, retention_days: int = 0) -> list[Difference]:
    """Differences between the per-minute aggregates and the audit rows, and between kept hours and their minutes.

    Reads the whole audit.

    ``retention_days``: minutes that are older may be gone from the aggregates, and are not compared; 0: none is gone.
    """
    differences = []
    kept_since = datetime.now(UTC) - timedelta(days=retention_days) if retention_days else None
    queries = {name: _SQL[name] for name in _AGGREGATES}
    queries |= {table.sums: table.query("differences") for table in rollup.TABLES}
    for what, query in queries.items():
        for row in await _rows(connection, query):
            if kept_since and row["minute"] < kept_since:
                continue
            counted, audited = row.pop("counted"), row.pop("audited")
            where = " ".join(str(value) for value in row.values())
            differences.append(Difference(what, where, audited, counted))
    return differences


def _place(row: dict[str, Any]) -> str:
    return f"{row['lane']}: {row['topic']}[{row['partition']}] of {row['cluster']}"


async def _rows(connection: Connection, query: bytes, values: Any = None) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return await cursor.fetchall()
