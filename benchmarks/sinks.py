"""Sinks: rows a second of audit and aggregates beside raw binary COPY, and how soon an outcome is a readable row.

    python -m benchmarks.sinks [--quick] [--runs 5] [--rows 40000] [--writers 1 2] [--seconds 15]

The first part writes the same rows in four ways (see `benchmarks.load.store`), in turn, to one server. The second
part lets a decision worker and a sink worker run at the lane's full load and at half of it; the lag of each row is
its transaction's commit time, as PostgreSQL keeps it, less the wall clock of the decision.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from typing import Any

import psycopg

from benchmarks.load.deployment import Deployment, broker, deployed, others_percent
from benchmarks.load.observer import Observer
from benchmarks.load.options import finish, parser
from benchmarks.load.phase import PATIENCE_S, Load, capacity, offer
from benchmarks.load.store import rounds
from benchmarks.result import Row
from pointsman.streams.store.migrate import migrate
from tests.support.postgres import PostgresServer, fresh_database

WAYS = {
    "store": "audit and aggregates",
    "bytes": "audit and aggregates, decoding of the outcomes included",
}
LOADS = {"full": 1.2, "half": 0.5}
"""Of what the lane does with the sink running; more than it can do is its full load."""
LAG = """
SELECT count(*), percentile_disc(array[0.5, 0.95, 0.99, 1]) WITHIN GROUP (ORDER BY lag)
FROM (
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8 AS lag
    FROM ml_learning.agent_decisions WHERE starts_with(decision_id, %s)
) AS rows
"""


def main() -> None:
    """Measure, print, write."""
    options = _options()
    # Commit times are what the lags are taken from; to keep them costs a few bytes a transaction.
    with PostgresServer(settings={"track_commit_timestamp": "on"}) as postgres:
        written = {}
        for writers in options.writers:
            with fresh_database(postgres.dsn) as dsn:
                written[writers] = asyncio.run(
                    rounds(dsn, writers, options.rows, options.batch, options.runs)
                )
            print(f"{writers} writers: {_line(written[writers])}", flush=True)
        with broker() as servers, fresh_database(postgres.dsn) as dsn, deployed(servers, 4) as deployment:
            lags = _lags(deployment, dsn, Load(options.commits), options.seconds)
    details = {"rounds": written, "lags": lags, "others_percent": others_percent()}
    finish("sinks", [*_rows(written), *_lag_rows(lags)], details, options)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=5)
    made.add_argument("--rows", type=int, default=40_000)
    made.add_argument("--batch", type=int, default=2_000)
    made.add_argument("--writers", type=int, nargs="+", default=[1, 2])
    made.add_argument("--seconds", type=float, default=15.0, help="of each load while lags are taken")
    options = made.parse_args()
    if options.quick:
        options.runs, options.rows, options.writers, options.seconds = 1, 10_000, [1], 4.0
    return options


# -- from outcome to row -----------------------------------------------------------------------------


def _lags(deployment: Deployment, dsn: str, load: Load, seconds: float) -> dict[str, dict[str, Any]]:
    asyncio.run(migrate(dsn))
    with (
        deployment.worker("decisions"),
        deployment.worker("sink", dsn=dsn),
        deployment.observer() as observer,
    ):
        most = capacity(deployment, observer, load, seconds=seconds / 2)
        _rows_of(dsn, "", None)
        return {
            name: _lag(deployment, dsn, observer, load, most * share, int(most * share * seconds))
            for name, share in LOADS.items()
        }


def _lag(
    deployment: Deployment, dsn: str, observer: Observer, load: Load, rate: float, count: int
) -> dict[str, Any]:
    token = secrets.token_hex(4)
    schedule, seen, kept = offer(deployment, observer, load, rate=rate, count=count, token=token)
    lags = _rows_of(dsn, token, count)
    return {
        "offered_per_s": rate,
        "decided_per_s": count / (seen.max() - schedule.start_s),
        "rows": count,
        **dict(zip(("p50_s", "p95_s", "p99_s", "greatest_s"), lags, strict=True)),
        "schedule_kept": kept.well,
    }


def _rows_of(dsn: str, token: str, wanted: int | None) -> list[float]:
    """Lags in seconds (median, p95, p99, greatest) of a run's rows, once all are there.

    Without a number: once as many are there as a look before, so that what was before lies behind.
    """
    deadline, before = time.monotonic() + PATIENCE_S, -1
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < deadline:
            count, lags = connection.execute(LAG, (token,)).fetchone() or (0, [])
            if count == wanted or (wanted is None and count == before):
                return [float(lag) for lag in lags]
            before = count
            time.sleep(1.0)
    msg = f"{count:,} rows of {wanted} after {PATIENCE_S:.0f} s"
    raise TimeoutError(msg)


# -- what it comes to --------------------------------------------------------------------------------


def _rows(written: dict[int, list[dict[str, tuple[float, float]]]]) -> list[Row]:
    rows = []
    for writers, found in written.items():
        for way, words in WAYS.items():
            plain = [each[way][0] / each["plain"][0] for each in found]
            packed = [each[way][0] / each["packed"][0] for each in found]
            what = f"{writers} writers, {words}"
            bounds = {"at_least": 0.5, "aim": 0.8} if way == "store" else {}
            rows.append(Row.of(f"{what}: over binary COPY row by row", "x", plain, better="higher", **bounds))
            rows.append(Row.of(f"{what}: over binary COPY of packed bytes", "x", packed, better="higher"))
        for way in ("plain", "packed", *WAYS):
            rates = [each[way][0] for each in found]
            rows.append(Row.of(f"{writers} writers, {way}", "rows/s", rates, better="higher"))
    return rows


def _lag_rows(lags: dict[str, dict[str, Any]]) -> list[Row]:
    rows = []
    for name, found in lags.items():
        what = f"{name} load of the lane with its sink"
        rows.append(Row.of(f"{what}: decisions", "1/s", [found["decided_per_s"]], better="higher"))
        for figure in ("p50_s", "p99_s", "greatest_s"):
            bounds = {"at_least": 10.0, "aim": 2.0} if figure == "p99_s" else {}
            words = f"{what}: outcome to readable row, {figure.removesuffix('_s')}"
            rows.append(Row.of(words, "s", [found[figure]], better="lower", **bounds))
    return rows


def _line(found: list[dict[str, tuple[float, float]]]) -> str:
    return ", ".join(f"{way} {max(each[way][0] for each in found):,.0f}/s" for way in found[0])


if __name__ == "__main__":
    main()
