"""TimescaleDB's full edition: late truth shows within seconds, compressed minutes take it, old ones go.

These need a server that has it, named by POINTSMAN_TEST_DSN; there none of them is skipped.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pointsman.schemas.feedback import Feedback
from pointsman.streams.store import AuditStore, edition, rollup
from pointsman.streams.store.check import aggregates_check
from pointsman.streams.store.edition import AGGREGATES, MINUTES, Wanted
from pointsman.streams.store.migrate import migrate
from tests.integration.store.helpers import batch
from tests.support.outcomes import feedback, outcome
from tests.support.postgres import fresh_database

WITHIN_S = 10.0
"""What is promised, from the commit of late truth to its figure."""
PATIENCE_S = 90.0
"""For what happens before what is measured: the first refresh of a new data base."""
NOW = datetime.now(UTC).replace(microsecond=0)
LONG_AGO = NOW - timedelta(days=40)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> Iterator[str]:
    """A data base with all that the full edition has, and its scheduler at work: not copied, for that starts late."""
    if "POINTSMAN_TEST_DSN" not in os.environ:
        pytest.skip("it needs TimescaleDB's full edition: POINTSMAN_TEST_DSN of a server that has it")
    with fresh_database(request.getfixturevalue("plain_postgres")) as dsn:
        asyncio.run(migrate(dsn))
        asyncio.run(edition.apply(dsn, Wanted()))
        if asyncio.run(edition.look(dsn)).server.edition != "timescale":
            pytest.skip("it needs TimescaleDB's full edition, and POINTSMAN_TEST_DSN names a server without")
        yield dsn


@pytest.fixture
def owner(full: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(full, autocommit=True, options="-c timezone=UTC") as connection:
        yield connection


def told(start: int, *events: Feedback) -> Any:
    return batch(start, start + len(events), topic="decision-feedback", feedback=events)


def value(connection: psycopg.Connection, query: str, *values: Any) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return row and row[0]


async def until(said: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    while not said():
        assert time.monotonic() - began < patience_s, "it never came"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def unequal(dsn: str, retention_days: int = 0) -> list[Any]:
    async with AuditStore(dsn) as store, store.connection() as connection:
        return await aggregates_check(connection, retention_days)


def kept_in(connection: psycopg.Connection, view: str) -> str:
    """The table of an aggregate's rows."""
    return str(
        value(
            connection,
            "SELECT format('%%I.%%I', materialization_hypertable_schema, materialization_hypertable_name)"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = %s",
            f"{view}_cagg",
        )
    )


def materialised_until(connection: psycopg.Connection, view: str) -> datetime | None:
    """Where the part ends that is kept; what is younger is added up when it is asked for."""
    last = value(connection, f"SELECT max(hour) FROM {kept_in(connection, view)}")
    return last and last + timedelta(hours=1)


def run_policy(connection: psycopg.Connection, kind: str) -> None:
    """Every policy of a kind, now, as its schedule would."""
    jobs = connection.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s AND hypertable_schema = 'ml_learning'",
        (f"policy_{kind}",),
    ).fetchall()
    assert len(jobs) == len(MINUTES)
    for (job,) in jobs:
        connection.execute(sql.SQL("CALL run_job({})").format(sql.Literal(job)))


async def test_a_label_a_month_late_shows_in_its_hour_within_ten_seconds(
    full: str, owner: psycopg.Connection
) -> None:
    minute = LONG_AGO.replace(second=0)
    labelled = "SELECT coalesce(sum(decisions), 0)::integer FROM ml_learning.decision_label_hours WHERE label = 'none'"
    async with AuditStore(full) as store:
        await store.write(
            batch(0, 3, [outcome(n, decided_at=minute + timedelta(seconds=n)) for n in range(3)])
        )
        # Another label lies in a younger hour: so that of the decisions is kept, and a change must find its way there.
        await store.write(batch(3, 4, [outcome(3, decided_at=NOW - timedelta(days=1))]))
        await store.write(told(0, feedback("e", "d0-3", label="none")))
        for view in ("decision_label_hours", "decision_hours"):
            await until(
                lambda view=view: (materialised_until(owner, view) or minute) > minute + timedelta(hours=2)
            )  # type: ignore[misc]
        assert value(owner, labelled) == 1
        for n in range(3):
            await store.write(told(n + 1, feedback("e", f"d0-{n}", label="none")))
            assert await until(lambda n=n: value(owner, labelled) == n + 2, WITHIN_S) < WITHIN_S  # type: ignore[misc]
        # One that is taken back leaves its cell.
        await store.write(told(4, feedback("f", "d0-0", label="update")))
        assert await until(lambda: value(owner, labelled) == 3, WITHIN_S) < WITHIN_S
    assert await unequal(full) == []
    by_hour = owner.execute(
        "SELECT hour, sum(decisions)::integer FROM ml_learning.decision_label_hours GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert by_hour[0] == (minute.replace(minute=0), 3)


async def test_what_is_decided_now_shows_at_once(full: str, owner: psycopg.Connection) -> None:
    async with AuditStore(full) as store:
        await store.write(batch(0, 1, [outcome(0, decided_at=LONG_AGO)]))
        await until(lambda: materialised_until(owner, "decision_hours") is not None)
        await store.write(batch(1, 2, [outcome(1, decided_at=NOW)]))
    assert value(owner, "SELECT sum(decisions)::integer FROM ml_learning.decision_hours") == 2


async def test_every_view_by_the_hour_equals_the_minutes_once_it_is_kept(
    full: str, owner: psycopg.Connection
) -> None:
    made = [
        outcome(n, decided_at=LONG_AGO + timedelta(minutes=7 * n), fallback_reason="e") for n in range(100)
    ]
    async with AuditStore(full) as store:
        await store.write(batch(0, 100, made))
        await store.write(told(0, *(feedback("e", f"d0-{n}", label="none", rating=3) for n in range(100))))
    for view, table in AGGREGATES.items():
        await until(lambda view=view: materialised_until(owner, view) is not None)  # type: ignore[misc]
        total = value(owner, f"SELECT sum(decisions)::integer FROM ml_learning.{view}")
        assert total == value(owner, f"SELECT sum(decisions)::integer FROM ml_learning.{table}") == 100
        shown = f"SELECT count(DISTINCT hour)::integer FROM ml_learning.{view}"
        assert value(owner, shown) >= 11


async def test_compressed_minutes_take_late_truth_however_much_must_be_unpacked(
    full: str, owner: psycopg.Connection
) -> None:
    made = [outcome(n, decided_at=LONG_AGO + timedelta(minutes=n)) for n in range(200)]
    async with AuditStore(full) as store:
        await store.write(batch(0, 200, made))
        await store.write(told(0, *(feedback("e", f"d0-{n}", label="none", rating=3) for n in range(100))))
    run_policy(owner, "compression")
    packed = owner.execute(
        "SELECT hypertable_name::text, bool_and(is_compressed) FROM timescaledb_information.chunks"
        " WHERE hypertable_schema = 'ml_learning' AND hypertable_name LIKE '%_shards' GROUP BY 1"
    ).fetchall()
    assert len(packed) == len(MINUTES) - 2, "no fallbacks and no shadows"
    assert all(all_of_them for _, all_of_them in packed)
    assert await unequal(full) == []
    # The bound that a session has by default: the store lifts it for itself.
    name = psycopg.conninfo.conninfo_to_dict(full)["dbname"]
    bound = "timescaledb.max_tuples_decompressed_per_dml_transaction"
    owner.execute(f"ALTER DATABASE {name} SET {bound} = 1".encode())
    async with AuditStore(full) as store:
        late = [feedback("f", f"d0-{n}", label="update", rating=5) for n in range(50, 150)]
        assert (await store.write(told(100, *late))).feedback == 100
        again = [outcome(n, decided_at=LONG_AGO + timedelta(minutes=n - 200)) for n in range(200, 300)]
        assert (await store.write(batch(200, 300, again))).outcomes == 100
    assert await unequal(full) == []
    rows = owner.execute(
        "SELECT label, sum(decisions)::integer FROM ml_learning.decision_label_minutes GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows == [("none", 50), ("update", 100)]
    run_policy(owner, "compression")
    assert await unequal(full) == []


async def test_minutes_are_rolled_up_beside_compressed_ones_and_no_figure_changes(
    full: str, owner: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rollup, "ROWS_MAX", 10
    )  # fewer than are compressed, so that those could be in the way
    made = [outcome(n, decided_at=LONG_AGO + timedelta(minutes=n)) for n in range(20)]
    young = [outcome(n, decided_at=NOW - timedelta(hours=2, minutes=n)) for n in range(20, 40)]
    async with AuditStore(full) as store:
        await store.write(batch(0, 20, made))
        await store.write(told(0, *(feedback("e", f"d0-{n}", label="none", rating=3) for n in range(20))))
        run_policy(owner, "compression")
        await store.write(batch(20, 40, young))
        # Truth of compressed minutes, which cannot be merged any more.
        await store.write(told(20, *(feedback("f", f"d0-{n}", label="update", rating=5) for n in range(10))))
        assert await store.roll_up() > 0
    shards = "SELECT shard, count(*)::integer FROM ml_learning.decision_minute_shards GROUP BY 1 ORDER BY 1"
    assert owner.execute(shards.encode()).fetchall() == [(-1, 20), (0, 20)]
    assert await unequal(full) == []
    for hours in ("decision_confidence_hours", "decision_flag_hours"):
        assert value(owner, f"SELECT sum(decisions)::integer FROM ml_learning.{hours}") == 40
    rows = owner.execute(
        "SELECT label, sum(decisions)::integer FROM ml_learning.decision_label_minutes GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert rows == [("none", 10), ("update", 10)]


async def test_figures_older_than_the_retention_go_and_those_within_stay(
    full: str, owner: psycopg.Connection
) -> None:
    async with AuditStore(full) as store:
        await store.write(batch(0, 2, [outcome(0, decided_at=LONG_AGO), outcome(1, decided_at=NOW)]))
        assert await store.roll_up() > 0
        await store.write(told(0, feedback("e", "d0-0", label="none"), feedback("e", "d0-1", label="none")))
        await until(lambda: materialised_until(owner, "decision_hours") is not None)
        made = await edition.apply(full, Wanted(aggregate_retention_days=20))
        assert made.steps == [f"retention of {table} after 20 days" for table in MINUTES]
        run_policy(owner, "retention")
        for view in ("decision_minutes", "decision_label_minutes"):
            assert owner.execute(f"SELECT minute FROM ml_learning.{view}".encode()).fetchall() == [
                (NOW.replace(second=0),)
            ]
        by_hour = "SELECT hour FROM ml_learning.decision_hours"
        expected = [(NOW.replace(minute=0, second=0),)]
        await store.forget_hours(20)
        assert owner.execute("SELECT hour FROM ml_learning.decision_confidence_hours").fetchall() == expected
        assert await until(lambda: owner.execute(by_hour).fetchall() == expected, WITHIN_S) < WITHIN_S
    assert {each.what for each in await unequal(full)} == {
        "minutes", "latency", "truths", "labels", "scores", "confidences", "flags",
    }  # fmt: skip
    assert await unequal(full, retention_days=20) == []


async def test_policies_follow_the_settings(full: str) -> None:
    async def states(wanted: Wanted) -> dict[str, str]:
        return {each.name: each.state for each in edition.features(await edition.look(full), wanted)}

    assert await states(Wanted()) == dict.fromkeys(edition.FEATURES, "present") | {"retention": "off"}
    other = Wanted(compress_after_days=0, aggregate_retention_days=90)
    assert await states(other) == dict.fromkeys(edition.FEATURES, "present") | {
        "compression": "missing",
        "retention": "missing",
    }
    assert len((await edition.apply(full, other)).steps) == 2 * len(MINUTES)
    assert await states(other) == dict.fromkeys(edition.FEATURES, "present") | {"compression": "off"}
    changed = Wanted(compress_after_days=3, aggregate_retention_days=91)
    assert len((await edition.apply(full, changed)).steps) == 2 * len(MINUTES)
    assert (await edition.apply(full, changed)).steps == []
    assert len((await edition.apply(full, Wanted())).steps) == 2 * len(MINUTES)


async def test_a_policy_that_fails_is_told(full: str, owner: psycopg.Connection) -> None:
    """Late truth would show late, and nobody would know why."""
    owner.execute(
        "CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$"
    )
    owner.execute(
        (
            f"CREATE TRIGGER fail BEFORE INSERT ON {kept_in(owner, 'decision_hours')}"
            " FOR EACH ROW EXECUTE FUNCTION public.fail()"
        ).encode()
    )
    async with AuditStore(full) as store:
        await store.write(batch(0, 1, [outcome(0, decided_at=LONG_AGO)]))

    async def state() -> str:
        return edition.features(await edition.look(full), Wanted())[2].state

    began = time.monotonic()
    while await state() != "failing":
        assert time.monotonic() - began < PATIENCE_S
        await asyncio.sleep(0.2)


async def test_views_that_a_migration_made_anew_are_put_on_their_aggregates_again(
    full: str, owner: psycopg.Connection
) -> None:
    owner.execute(
        "CREATE OR REPLACE VIEW ml_learning.decision_fallback_hours AS SELECT agent_name,"
        " ml_learning.hour_of(minute) AS hour, arm, reason, sum(decisions)::bigint AS decisions"
        " FROM ml_learning.decision_fallback_shards GROUP BY 1, 2, 3, 4"
    )
    made = await edition.apply(full, Wanted())
    assert made.steps == ["continuous aggregate decision_fallback_hours_cagg"]
