"""Dashboards: how long each panel's query takes on the aggregates of ten million decisions.

    python -m benchmarks.dashboards [--quick] [--runs 5] [--decisions 10000000]

The aggregates are made as the sink would leave them: `--decisions` spread evenly over three days of 64 partitions, and
once more over thirty days of 4, by arm, partition and minute, a piece at a time, each merged by the sink's own roll-up. No
audit rows: no panel reads them. Each query is asked as Grafana asks it, for a window of six hours, for 26 and 44 (the longest
whose steps are of minutes) and for the whole time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import msgspec
import psycopg

from benchmarks.load.options import finish, parser
from benchmarks.result import Row
from pointsman.streams.dashboards import ask, panels
from pointsman.streams.dashboards.ask import Window
from pointsman.streams.store import AuditStore, rollup
from pointsman.streams.store.migrate import migrate
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load
from tests.support.postgres import PostgresServer, fresh_database

AGENT: Final = "documentation-keeper"
AT_MOST_MS: Final = 200.0
SPREADS: Final = {
    "3 days of 64 partitions": (timedelta(days=3), 64),
    "30 days of 4 partitions": (timedelta(days=30), 4),
}
WINDOWS: Final = {
    "6 hours": timedelta(hours=6),
    "26 hours": timedelta(hours=26),
    "44 hours": timedelta(hours=44),
}
SLICES: Final = 36
_FILL: Final = load("dashboards.sql", "benchmarks")
_ONCE: Final = ("measures", "weights")


def main() -> None:
    """Measure, print, write."""
    options = _options()
    found: dict[str, dict[str, list[float]]] = {}
    with PostgresServer() as postgres:
        for name, spread in SPREADS.items():
            with fresh_database(postgres.dsn) as dsn:
                found |= asyncio.run(_measured(dsn, name, *spread, options))
    rows = [
        Row.of(
            f"{window}: the slowest panel ({slowest})",
            "ms",
            times[slowest],
            better="lower",
            at_least=AT_MOST_MS,
        )
        for window, times in found.items()
        for slowest in [max(times, key=lambda each: statistics.median(times[each]))]
    ]
    finish("dashboards", rows, {"decisions": options.decisions, "milliseconds": found}, options)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=5)
    made.add_argument("--decisions", type=int, default=10_000_000)
    options = made.parse_args()
    if options.quick:
        options.runs, options.decisions = 1, 200_000
    return options


async def _measured(
    dsn: str, name: str, spread: timedelta, partitions: int, options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    await migrate(dsn)
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    windows = {
        f"{options.decisions:,} decisions in {name}, {which}": Window(AGENT, end - width, end)
        for which, width in (WINDOWS | {"all of it": spread}).items()
    }
    found: dict[str, dict[str, list[float]]] = {window: {} for window in windows}
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("SET TIME ZONE 'UTC'")
        for text in _ONCE:
            await connection.execute(_FILL[text], {"agent": AGENT})
        for start, until in pairwise(end - spread + spread / SLICES * n for n in range(SLICES + 1)):
            await _fill(connection, dsn, start, until, options.decisions // SLICES, partitions)
        await connection.execute("VACUUM ANALYZE")
        for _ in range(options.runs):
            for label, window in windows.items():
                for query, points in _queries():
                    began = time.perf_counter()
                    await ask.rows(connection, query, msgspec.structs.replace(window, points=points))
                    found[label].setdefault(query.name, []).append((time.perf_counter() - began) * 1000)
    for label, times in found.items():
        slowest = sorted(times, key=lambda each: -statistics.median(times[each]))[:3]
        print(
            f"{label}: " + ", ".join(f"{each} {statistics.median(times[each]):.0f} ms" for each in slowest),
            flush=True,
        )
    return found


async def _fill(
    connection: Connection, dsn: str, start: datetime, end: datetime, decisions: int, partitions: int
) -> None:
    """A slice of the time as the sink leaves it: written by partitions, merged, and what is dead taken away."""
    values: Any = {
        "start": start,
        "end": end,
        "decisions": decisions,
        "partitions": partitions,
        "agent": AGENT,
    }
    for name, text in _FILL.items():
        if name not in _ONCE:
            await connection.execute(text, values)
    async with AuditStore(dsn) as store:
        await store.roll_up()
    for table in rollup.TABLES:
        await connection.execute(f"VACUUM ANALYZE ml_learning.{table.shards}".encode())


def _queries() -> list[tuple[panels.Query, int]]:
    """Those of both dashboards of an agent, each once, with the points of its panel."""
    boards = (panels.of_model(AGENT), panels.of_rollout(AGENT))
    found = {
        query.name: (query, panel.points)
        for board in boards
        for panel in board.panels
        for query in panel.queries
        if query.sql
    }
    return list(found.values())


if __name__ == "__main__":
    main()
