"""The roll-up merges what partitions wrote of minutes that are over: no figure changes by it, at no moment."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pointsman.models.evaluate import Costs
from pointsman.models.measure import Measure
from pointsman.models.satisfaction import WEIGHTS
from pointsman.schemas.outcome import Answers, Outcome
from pointsman.streams.dashboards import ask, panels
from pointsman.streams.dashboards.ask import Window
from pointsman.streams.store import AuditStore, edition, rollup
from pointsman.streams.store.check import Difference, aggregates_check
from tests.integration.store.helpers import batch, fill
from tests.support.outcomes import answer, feedback, outcome, shadow

AGENT = "documentation-keeper"
START = datetime.now(UTC).replace(minute=0, second=30, microsecond=0) - timedelta(days=1)
"""Not so old that the full edition would compress it meanwhile."""
ALL_S = 0.0
"""Whatever its age; only the minute under way may be younger than now."""


def made(n: int, drawn: random.Random, *, partitions: int = 3) -> Outcome:
    """A decision of the hours after the start."""
    return outcome(
        n,
        partition=n % partitions,
        arm=drawn.choice(["candidate", "control"]),
        fallback_reason=drawn.choice([None, "timeout"]),
        answers=Answers(rules=answer(), ml=drawn.choice([None, answer("ml@7", "none")])),
        decided_at=START + timedelta(minutes=n),
    )


async def write(store: AuditStore, n: int) -> None:
    """So many decisions of three partitions, each with truth and every fourth with a later answer."""
    await store.tell([Measure(AGENT, "update", Costs(1.0, 2.5))], WEIGHTS)
    drawn = random.Random(n)
    sent = [made(i, drawn) for i in range(n)]
    await store.write(batch(0, n, sent))
    known = {"label": "none", "rating": 4.0, "tokens": 7, "task_duration_s": 2.5}
    told = [feedback(f"e{i}", f"d{i % 3}-{i}", **known) for i in range(n)]
    await store.write(batch(0, n, topic="decision-feedback", feedback=told))
    later = [shadow(i, partition=i % 3) for i in range(0, n, 4) if sent[i].answers.ml is None]
    await store.write(batch(0, n, topic="decision-shadows", shadows=later))


async def differences(store: AuditStore) -> list[Difference]:
    async with store.connection() as connection:
        return await aggregates_check(connection)


def shards(people: psycopg.Connection) -> dict[str, set[int]]:
    """Which shards each table has."""
    return {
        table.shards: {
            shard
            for (shard,) in people.execute(f"SELECT DISTINCT shard FROM ml_learning.{table.shards}".encode())
        }
        for table in rollup.TABLES
    }


def test_every_table_by_the_minute_is_rolled_up_with_all_its_columns(people: psycopg.Connection) -> None:
    def columns(table: str) -> set[str]:
        found = people.execute(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            (f"ml_learning.{table}",),
        )
        return {name for (name,) in found}

    assert {table.shards for table in rollup.TABLES} == set(edition.MINUTES)
    for table in rollup.TABLES:
        known = {"agent_name", "arm", *table.keys, *table.counts}
        assert columns(table.shards) == known | {"minute", "shard"}
        assert columns(table.sums) == known | {"hour"}


async def test_shards_become_one_row_of_a_minute_and_what_comes_late_is_merged_in_turn(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await write(store, 120)
    merged = await store.roll_up(ALL_S)
    assert merged > 500
    found = shards(people)
    assert found == {table: {rollup.MERGED} for table in found}
    assert await differences(store) == []
    assert await store.roll_up(ALL_S) == 0

    late = [feedback(f"f{i}", f"d{i % 3}-{i}", label="update", rating=1.0) for i in range(60)]
    await store.write(batch(120, 180, topic="decision-feedback", feedback=late))
    assert shards(people)["decision_label_shards"] == {rollup.MERGED, 0, 1, 2}
    assert await differences(store) == []
    by_hour = (
        "SELECT label, sum(decisions)::integer FROM ml_learning.decision_label_minutes GROUP BY 1 ORDER BY 1"
    )
    assert people.execute(by_hour).fetchall() == [("none", 60), ("update", 60)]
    assert await store.roll_up(ALL_S) > 0
    assert people.execute(by_hour).fetchall() == [("none", 60), ("update", 60)]
    assert await differences(store) == []


async def test_minutes_that_are_still_written_are_left(store: AuditStore, people: psycopg.Connection) -> None:
    await fill(store, decided_at=datetime.now(UTC))
    await fill(store, 1, decided_at=datetime.now(UTC) - timedelta(minutes=10))
    await store.roll_up()
    minutes = people.execute(
        "SELECT shard < 0, now() - minute < interval '5 minutes' FROM ml_learning.decision_minute_shards ORDER BY 1"
    ).fetchall()
    assert minutes == [(False, True), (True, False)]


async def test_a_large_backlog_is_merged_piece_by_piece(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await write(store, 60)
    (table,) = [each for each in rollup.TABLES if each.shards == "decision_latency_shards"]
    async with store.connection() as connection:
        pieces = []
        while not pieces or pieces[-1]:
            pieces.append(await rollup.roll_up(connection, table, after_s=ALL_S, most=7))
            assert await differences(store) == []
    assert set(pieces[:-2]) == {7}
    assert sum(pieces) == 60
    assert shards(people)[table.shards] == {rollup.MERGED}


async def test_rows_that_a_writer_holds_are_left_and_a_writer_that_meets_the_merge_loses_nothing(
    migrated: str, store: AuditStore, people: psycopg.Connection
) -> None:
    await write(store, 30)
    add = (
        "INSERT INTO ml_learning.decision_fallback_shards AS stored VALUES (%s, %s, 'control', 1, 'late', 1)"
        " ON CONFLICT (agent_name, minute, arm, shard, reason) DO UPDATE SET decisions = stored.decisions + 1"
    )
    minute = START.replace(second=0)
    count = "SELECT coalesce(sum(decisions), 0)::integer FROM ml_learning.decision_fallback_minutes WHERE reason = 'late'"
    people.execute(add.encode(), (AGENT, minute))
    with psycopg.connect(migrated) as writer:
        writer.execute(add.encode(), (AGENT, minute))
        # Held by the writer: the merge neither waits for it nor takes it.
        assert await asyncio.wait_for(store.roll_up(ALL_S), 10) > 0
        assert shards(people)["decision_fallback_shards"] == {1, rollup.MERGED}
        writer.commit()
    assert people.execute(count.encode()).fetchone() == (2,)

    (table,) = [each for each in rollup.TABLES if each.shards == "decision_fallback_shards"]
    with psycopg.connect(migrated, autocommit=True) as writer:
        async with store.connection() as connection, connection.transaction():
            assert await rollup.roll_up(connection, table, after_s=ALL_S, most=100) == 1
            waits = asyncio.create_task(asyncio.to_thread(writer.execute, add.encode(), (AGENT, minute)))
            waiting = (
                "SELECT count(*)::integer FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
            )
            while people.execute(waiting.encode(), (writer.info.backend_pid,)).fetchone() == (0,):
                await asyncio.sleep(0.01)
        await waits
    assert people.execute(count.encode()).fetchone() == (3,)
    assert shards(people)["decision_fallback_shards"] == {1, rollup.MERGED}
    await store.roll_up(ALL_S)
    assert people.execute(count.encode()).fetchone() == (3,)


async def test_figures_are_right_whatever_writers_and_merges_meet(migrated: str, store: AuditStore) -> None:
    """Three partitions write decisions and change labels of the same minutes, while all is merged again and again."""
    drawn = random.Random(3)

    async def partition(number: int) -> None:
        for i in range(25):
            ids = [i * 8 + j for j in range(8)]
            sent = [
                outcome(n, partition=number, decided_at=START + timedelta(minutes=n % 5), arm="control")
                for n in ids
            ]
            await store.write(batch(i * 8, i * 8 + 8, sent, partition=number))
            told = [
                feedback(f"e{n}-{turn}", f"d{number}-{n}", label=drawn.choice(["none", "update"]))
                for turn in range(2)
                for n in drawn.sample(range(i * 8 + 8), k=min(8, i * 8 + 8))
            ]
            place: Any = {"topic": "decision-feedback", "partition": number}
            await store.write(batch(i * 100, i * 100 + 100, feedback=told, **place))

    async def merge(done: asyncio.Event) -> int:
        merged = 0
        async with AuditStore(migrated) as own:
            while not done.is_set():
                merged += await own.roll_up(ALL_S)
        return merged

    done = asyncio.Event()
    merges = [asyncio.create_task(merge(done)) for _ in range(2)]
    await asyncio.gather(*(partition(number) for number in range(3)))
    done.set()
    merged = await asyncio.gather(*merges)
    assert sum(merged) > 100
    assert await differences(store) == []
    await store.roll_up(ALL_S)
    assert await differences(store) == []


async def test_kept_hours_that_were_changed_are_found(store: AuditStore, people: psycopg.Connection) -> None:
    await write(store, 30)
    await store.roll_up(ALL_S)
    people.execute(
        "UPDATE ml_learning.decision_hour_sums SET decisions = decisions + 1 WHERE arm = 'control'"
    )
    people.execute("DELETE FROM ml_learning.decision_label_hour_sums WHERE arm = 'candidate'")
    assert {each.what for each in await differences(store)} == {
        "decision_hour_sums",
        "decision_label_hour_sums",
    }


async def test_kept_hours_go_when_their_minutes_are_gone_and_not_before(
    store: AuditStore, people: psycopg.Connection
) -> None:
    for number, days in enumerate((6, 4, 1)):
        await fill(store, number, decided_at=datetime.now(UTC) - timedelta(days=days))
    await store.roll_up()
    hours = "SELECT count(*)::integer FROM ml_learning.decision_hour_sums"
    await store.forget_hours(2)
    assert people.execute(hours.encode()).fetchone() == (3,)
    people.execute("DELETE FROM ml_learning.decision_minute_shards WHERE minute < now() - interval '3 days'")
    await store.forget_hours(5)
    assert people.execute(hours.encode()).fetchone() == (2,)
    await store.forget_hours(2)
    assert people.execute(hours.encode()).fetchone() == (1,)


QUERIES = {
    query.name: query
    for board in (panels.of_model(AGENT), panels.of_rollout(AGENT))
    for panel in board.panels
    for query in panel.queries
    if query.sql
}


def refresh_all(people: psycopg.Connection) -> None:
    """On the full edition, what else takes some seconds."""
    if people.execute("SELECT to_regclass('timescaledb_information.continuous_aggregates')").fetchone() != (
        None,
    ):
        for (name,) in people.execute(
            "SELECT format('%I.%I', view_schema, view_name) FROM timescaledb_information.continuous_aggregates"
        ).fetchall():
            people.execute(f"CALL refresh_continuous_aggregate('{name}', NULL, NULL)".encode())


async def test_steps_of_hours_say_what_the_minutes_say(store: AuditStore, people: psycopg.Connection) -> None:
    """Each panel's query over hours gives what the same query gives when it is made to read the minutes."""
    await write(store, 240)
    await store.roll_up(ALL_S)
    late = [feedback(f"f{i}", f"d{i % 3}-{i}", label="update", rating=1.0) for i in range(0, 240, 5)]
    await store.write(batch(240, 300, topic="decision-feedback", feedback=late))
    begin = START.replace(minute=0, second=0)
    window = Window(AGENT, begin, begin + timedelta(hours=6))
    refresh_all(people)
    async with store.connection() as connection:
        for name, query in QUERIES.items():
            hourly = panels.Query(name=name, sql=query.sql.replace("$__interval", "1 hour"))
            text = hourly.sql.replace("ml_learning.width_for('1 hour')", "interval '1 minute'")
            assert text != hourly.sql
            by_hour = await ask.rows(connection, hourly, window)
            by_minute = await ask.rows(connection, panels.Query(name=name, sql=text), window)
            assert [row[:2] for row in by_hour] == [row[:2] for row in by_minute], name
            assert [row[2] for row in by_hour] == pytest.approx([row[2] for row in by_minute]), name
            assert by_hour or name in {"tool_efficiency", "cost"}, name


async def test_a_step_reads_either_minutes_or_hours(store: AuditStore, migrated: str) -> None:
    """By the plan: the other kind is not even looked at."""
    full = (await edition.look(migrated)).server.edition == "timescale"
    begin = START.replace(minute=0, second=0)
    window = Window(AGENT, begin, begin + timedelta(hours=6))
    async with store.connection() as connection:
        for name, query in QUERIES.items():
            for step, wanted in (("5 minutes", False), ("1 hour", True), ("1 day", True)):
                text = "EXPLAIN " + query.sql.replace("$__interval", step)
                rows = await ask.rows(connection, panels.Query(name=name, sql=text), window)
                plan = "\n".join(str(row[0]) for row in rows)
                # An aggregate without rows is not in the plan.
                assert (full and wanted) or ("hour_sums" in plan or "_materialized_" in plan) == wanted, plan
