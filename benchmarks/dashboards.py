"""Dashboards: how long each panel's query takes on the aggregates of ten million decisions.

    python -m benchmarks.dashboards [--quick] [--runs 5] [--decisions 10000000]

The aggregates are made as the sink would leave them: `--decisions` spread evenly over a day, and once more over thirty
days, by arm, partition and minute. No audit rows: no panel reads them. Each query is asked as Grafana asks it, for a
window of six hours and for the whole time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from benchmarks.load.options import finish, parser
from benchmarks.result import Row
from pointsman.streams.dashboards import ask, panels
from pointsman.streams.dashboards.ask import Window
from pointsman.streams.store.migrate import migrate
from pointsman.streams.store.queries import load
from tests.support.postgres import PostgresServer, fresh_database

AGENT: Final = "documentation-keeper"
AT_MOST_MS: Final = 200.0
SPREADS: Final = {"a day": timedelta(days=1), "30 days": timedelta(days=30)}
_FILL: Final = load("dashboards.sql", "benchmarks")


def main() -> None:
    """Measure, print, write."""
    options = _options()
    found: dict[str, dict[str, list[float]]] = {}
    with PostgresServer() as postgres:
        for name, spread in SPREADS.items():
            with fresh_database(postgres.dsn) as dsn:
                found |= asyncio.run(_measured(dsn, name, spread, options))
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
    dsn: str, name: str, spread: timedelta, options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    await migrate(dsn)
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    windows = {
        f"{options.decisions:,} decisions in {name}, window of 6 h": Window(
            AGENT, end - timedelta(hours=6), end
        ),
        f"{options.decisions:,} decisions in {name}, all of it": Window(AGENT, end - spread, end),
    }
    found: dict[str, dict[str, list[float]]] = {window: {} for window in windows}
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("SET TIME ZONE 'UTC'")
        for text in _FILL.values():
            values: Any = {"start": end - spread, "end": end, "decisions": options.decisions, "agent": AGENT}
            await connection.execute(text, values)
        await connection.execute("VACUUM ANALYZE")
        for _ in range(options.runs):
            for label, window in windows.items():
                for query in _queries():
                    began = time.perf_counter()
                    await ask.rows(connection, query, window)
                    found[label].setdefault(query.name, []).append((time.perf_counter() - began) * 1000)
    for label, times in found.items():
        slowest = sorted(times, key=lambda each: -statistics.median(times[each]))[:3]
        print(
            f"{label}: " + ", ".join(f"{each} {statistics.median(times[each]):.0f} ms" for each in slowest),
            flush=True,
        )
    return found


def _queries() -> list[panels.Query]:
    """Those of both dashboards of an agent, each once."""
    boards = (panels.of_model(AGENT), panels.of_rollout(AGENT))
    found = {
        query.name: query
        for board in boards
        for panel in board.panels
        for query in panel.queries
        if query.sql
    }
    return list(found.values())


if __name__ == "__main__":
    main()
