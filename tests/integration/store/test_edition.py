"""The edition step makes what the server's edition allows, moves what is there, and changes no name, column or right."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pointsman.streams.store import AuditStore, MigrationError, StoreUnavailable, edition
from pointsman.streams.store.check import aggregates_check
from pointsman.streams.store.edition import APPEND_ONLY, HYPERTABLES, Wanted
from pointsman.streams.store.migrate import migrate, migrations
from tests.integration.store.helpers import batch, count
from tests.support.outcomes import START, feedback, outcome, shadow
from tests.support.postgres import fresh_database

COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = 'ml_learning' AND table_name NOT LIKE '%\\_cagg'
"""
OLD = """
INSERT INTO ml_learning.agent_decisions (
    created_at, request_offset, topic_id, partition, flag_version, revision, success, needs_review, confidence,
    flag_percentage, rules_score, rules_confidence, total_ms, features_ms, decision_id, agent_name, status, source, arm,
    prediction, reason, action, rules_decider, rules_prediction, rules_reason, flag_name, pointsman_version,
    features_version, rules_version, content_hash, commitment, features
)
SELECT
    timestamptz '2026-01-01 00:00:07Z' + n * interval '1 day', n, 1, 0, 1, 1, true, false, 0.5, 5, 0.5, 0.5, n, 0.1,
    'd' || n, 'a', 'final', 'deterministic', 'control', 'yes', 'r', 'act', 'rules@1', 'yes', 'r', 'f', '0', '1', '1',
    'h', 'c', '{"n": 1}'
FROM generate_series(1, 20) AS n;
INSERT INTO ml_learning.decision_contents (
    created_at, request_offset, topic_id, partition, revision, decision_id, unit, salt, input
)
SELECT created_at, request_offset, topic_id, partition, revision, decision_id, 'u', 's', '{}'
FROM ml_learning.agent_decisions;
INSERT INTO ml_learning.decision_shadows (
    answered_at, request_offset, topic_id, partition, score, confidence, decision_id, agent_name, decider, prediction,
    reason
)
SELECT created_at, request_offset, topic_id, partition, 0.2, 0.8, decision_id, agent_name, 'ml@7', 'no', 'r'
FROM ml_learning.agent_decisions;
INSERT INTO ml_learning.decision_feedback (
    known_at, observed_at, decision_id, agent_name, event_id, kind, value_text, commitment
)
SELECT created_at + interval '40 days', created_at, decision_id, agent_name, 'e', 'label', 'yes', 'c'
FROM ml_learning.agent_decisions;
INSERT INTO ml_learning.feedback_contents (known_at, decision_id, event_id, salt, content)
SELECT known_at, decision_id, event_id, 's', '{}' FROM ml_learning.decision_feedback;
"""
"""What a store of the first version wrote."""
OLD_MINUTES = """
INSERT INTO ml_learning.decision_minute_shards
SELECT agent_name, ml_learning.minute_of(created_at), arm, partition, 1, 0, 0, 0, 0, 0, 0, 0, 0, 500000,
    (total_ms * 1000)::bigint, 0
FROM ml_learning.agent_decisions;
INSERT INTO ml_learning.decision_latency_shards
SELECT agent_name, ml_learning.minute_of(created_at), arm, partition, ml_learning.latency_bucket(total_ms), 1
FROM ml_learning.agent_decisions;
"""
"""And from the second on."""


@pytest.fixture
def owner(chunked: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(chunked, autocommit=True) as connection:
        yield connection


def rows(dsn: str, table: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row, options="-c timezone=UTC") as connection:
        found = connection.execute(f"SELECT * FROM ml_learning.{table}".encode()).fetchall()
    return sorted(found, key=str)


def columns(dsn: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return set(connection.execute(COLUMNS.encode()))


async def unequal(dsn: str) -> list[Any]:
    async with AuditStore(dsn) as store, store.connection() as connection:
        return await aggregates_check(connection)


async def test_a_second_run_finds_nothing_to_do_and_every_feature_is_there_or_cannot_be(
    database: str,
) -> None:
    await migrate(database)
    planned = edition.steps(await edition.look(database), Wanted())
    made = await edition.apply(database, Wanted())
    assert made.note == ""
    assert made.steps[: len(planned)] == [step.name for step in planned]
    assert await edition.apply(database, Wanted()) == edition.Made([])
    found = await edition.look(database)
    assert edition.steps(found, Wanted()) == []
    assert {each.state for each in edition.features(found, Wanted())} <= {"present", "unavailable", "off"}
    assert set(found.hypertables) == (set(HYPERTABLES) if found.server.installed else set())


async def test_looking_changes_nothing(database: str) -> None:
    await migrate(database)
    before = columns(database)
    found = await edition.look(database)
    edition.steps(found, Wanted())
    assert await edition.look(database) == found
    assert columns(database) == before


async def test_names_and_columns_are_the_same_on_every_edition(database: str) -> None:
    await migrate(database)
    before = columns(database)
    await edition.apply(database, Wanted())
    assert columns(database) == before


async def test_several_at_once_make_each_thing_once(database: str) -> None:
    await migrate(database)
    made = await asyncio.gather(*(edition.apply(database, Wanted()) for _ in range(3)))
    names = [name for each in made for name in each.steps]
    assert sorted(names) == sorted(set(names))
    assert edition.steps(await edition.look(database), Wanted()) == []


@pytest.mark.parametrize("version", range(1, len(migrations()) + 1))
async def test_rows_of_every_earlier_version_are_moved_and_none_is_lost_or_changed(
    database: str, version: int
) -> None:
    await migrate(database, migrations()[:version])
    with psycopg.connect(database, autocommit=True) as people:
        people.execute(OLD.encode())
        if version >= 2:
            people.execute(OLD_MINUTES.encode())
    filled = [*APPEND_ONLY, *(["decision_minute_shards", "decision_latency_shards"] if version >= 2 else [])]
    before = {table: rows(database, table) for table in filled}
    await migrate(database)
    await edition.apply(database, Wanted())
    for table, kept in before.items():
        after = rows(database, table)
        assert len(after) == len(kept) == 20, table
        names = kept[0].keys()
        assert sorted(({name: row[name] for name in names} for row in after), key=str) == kept, table
    if version >= 2:
        async with AuditStore(database) as store:
            if version < 5:  # labels of before wait for the first sweep
                await store.sweep()
                assert await unequal(database) == []
            assert await store.write(batch(0, 1, [outcome()]))
    with psycopg.connect(database, autocommit=True) as people:
        # Columns of an identity go on where they were.
        people.execute(
            "INSERT INTO ml_learning.decision_feedback (observed_at, decision_id, agent_name, event_id, kind, commitment)"
            " VALUES (now(), 'd', 'a', 'e', 'label', 'c')"
        )
        row = people.execute(
            "SELECT max(seq), count(DISTINCT seq) FROM ml_learning.decision_feedback"
        ).fetchone()
    assert row == (21, 21)


async def test_a_sink_goes_on_while_its_tables_are_moved(database: str) -> None:
    """As the sink does it: after an error that may pass it reads its position and goes on from there."""
    await migrate(database)
    topics = ("decision-outcomes", "decision-feedback")
    moved = asyncio.create_task(edition.apply(database, Wanted()))
    async with AuditStore(database) as store, asyncio.timeout(60):
        at = dict.fromkeys(topics, 0)
        while not moved.done() or min(at.values()) < 10:
            try:
                at = {topic: await store.position("sink", "cluster-1", topic, 0) or 0 for topic in topics}
                n, e = at.values()
                await store.write(batch(n, n + 1, [outcome(n, decided_at=START)], topic=topics[0]))
                told = [feedback(f"e{e}", f"d0-{e}", label="none")]
                await store.write(batch(e, e + 1, topic=topics[1], feedback=told))
            except StoreUnavailable:
                continue
        await moved
        at = {topic: await store.position("sink", "cluster-1", topic, 0) or 0 for topic in topics}
    assert await unequal(database) == []
    assert [len(rows(database, table)) for table in ("agent_decisions", "decision_feedback")] == list(
        at.values()
    )


async def test_a_server_that_will_not_make_the_extension_works_without_it(database: str) -> None:
    await migrate(database)
    if not (await edition.look(database)).server.may_grow:
        assert (await edition.apply(database, Wanted())).steps == []
        return
    with psycopg.connect(database, autocommit=True) as people:
        people.execute(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'not on this server' USING ERRCODE = 'feature_not_supported'; END $$"
        )
        people.execute(
            "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE EXTENSION')"
            " EXECUTE FUNCTION refuse()"
        )
    made = await edition.apply(database, Wanted())
    assert made.steps == []
    assert "not on this server" in made.note
    async with AuditStore(database) as store:
        await store.write(batch(0, 1, [outcome()]))


async def test_another_role_than_the_owner_of_the_tables_is_refused_by_the_step_s_name(
    timescale: str,
) -> None:
    with fresh_database(timescale) as dsn:
        await migrate(dsn)
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        with psycopg.connect(dsn, autocommit=True) as people:
            people.execute("CREATE EXTENSION timescaledb")
            people.execute(f"CREATE ROLE other_{name} NOLOGIN".encode())
            people.execute(f"GRANT USAGE ON SCHEMA ml_learning TO other_{name}".encode())
        try:
            with pytest.raises(MigrationError, match=r"hypertable agent_decisions: .*owner"):
                await edition.apply(make_conninfo(dsn, options=f"-c role=other_{name}"), Wanted())
        finally:
            with psycopg.connect(dsn, autocommit=True) as people:
                people.execute(f"DROP OWNED BY other_{name}".encode())
                people.execute(f"DROP ROLE other_{name}".encode())


# -- chunks ------------------------------------------------------------------------------------------


@pytest.fixture
async def filled(chunked: str) -> None:
    """A row at least in each hypertable of the audit."""
    async with AuditStore(chunked) as store:
        await store.write(batch(0, 1, [outcome()]))
        await store.write(batch(0, 1, topic="decision-shadows", shadows=[shadow()]))
        await store.write(
            batch(0, 1, topic="decision-feedback", feedback=[feedback("e", label="none", comment="c")])
        )
    assert await unequal(chunked) == []


def chunk(connection: psycopg.Connection, table: str) -> str:
    (row,) = connection.execute("SELECT show_chunks(%s)", (f"ml_learning.{table}",)).fetchall()
    return str(row[0])


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_a_chunk_is_as_append_only_as_its_table(owner: psycopg.Connection, table: str) -> None:
    part = chunk(owner, table)
    assert count(owner, table) == owner.execute(f"SELECT count(*) FROM {part}".encode()).fetchone()[0] > 0
    refused = f"ml_learning.{table} is append-only"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{refused}: UPDATE"):
        owner.execute(f"UPDATE {part} SET decision_id = 'x'".encode())
    if table not in ("decision_contents", "feedback_contents"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{refused}: DELETE"):
            owner.execute(f"DELETE FROM {part}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"{refused}: TRUNCATE"):
        owner.execute(f"TRUNCATE ml_learning.{table}".encode())
    owner.execute("SET ROLE pointsman_service")
    for command in (f"UPDATE {part} SET decision_id = 'x'", f"DELETE FROM {part}", f"TRUNCATE {part}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            owner.execute(command.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        owner.execute(
            "SELECT drop_chunks(%s, newer_than => timestamptz '2000-01-01')", (f"ml_learning.{table}",)
        )


@pytest.mark.usefixtures("filled")
def test_contents_of_a_chunk_can_be_deleted_by_the_privacy_role(owner: psycopg.Connection) -> None:
    owner.execute("SET ROLE pointsman_privacy")
    assert owner.execute("DELETE FROM ml_learning.decision_contents").rowcount == 1
    assert owner.execute("DELETE FROM ml_learning.feedback_contents").rowcount == 1
