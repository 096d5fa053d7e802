"""Daily digests: whatever is changed, deleted or added behind the audit's back is found, by day and by table."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import date, timedelta

import msgspec
import psycopg
import pytest
import pytest_asyncio
from msgspec import Raw
from msgspec.structs import replace

from pointsman.streams.embedded.postgres_files import packaged_programs, version_of
from pointsman.streams.store import AuditStore, digests, edition, retention
from pointsman.streams.store.digests import TABLES, Digest, make, of_day, revise
from pointsman.streams.store.errors import AuditRefused
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.verify import Finding, Report, verify
from tests.integration.store.helpers import age, behind_the_back, days_ago, fill
from tests.support.postgres import fresh_database, system_programs

DAYS = 4


@pytest_asyncio.fixture
async def owner(migrated: str) -> AsyncIterator[Connection]:
    """A connection of the data base's owner, for what the program does."""
    async with await psycopg.AsyncConnection.connect(
        migrated, autocommit=True, options="-c timezone=UTC"
    ) as connected:
        yield connected


@pytest_asyncio.fixture
async def day(store: AuditStore, people: psycopg.Connection, owner: Connection) -> date:
    """A day with two rows at least in each table, and digests up to the day after it."""
    await fill(store, 0)
    await fill(store, 1, unit="repo-2")
    await fill(store, 2, unit="gone")
    await retention.forget_unit(owner, "gone", by="test")
    await retention.forget_decision(owner, "d0-10", by="test")
    age(people, DAYS)
    found = days_ago(people, DAYS)
    await make(owner, found + timedelta(days=1))
    return found


def said(report: Report) -> set[tuple[date | None, str]]:
    return {(each.day, each.table) for each in report.findings}


# -- making them -----------------------------------------------------------------------------------------


async def test_each_day_has_one_digest_with_the_one_before_in_it_and_a_second_run_makes_none(
    day: date, owner: Connection
) -> None:
    first, second = await digests.all_digests(owner)
    assert (first.day, second.day) == (day, day + timedelta(days=1))
    assert {name: each.rows for name, each in first.tables.items()} == {
        "agent_decisions": 3, "audit_deletions": 2, "dead_letters": 3, "decision_feedback": 9,
        "decision_histories": 3, "decision_shadows": 3, "lane_ledger": 3,
    }  # fmt: skip
    assert {each.rows for each in second.tables.values()} == {0}
    assert (first.previous, second.previous) == (digests.NOTHING, first.digest)
    assert await make(owner, second.day) == []
    report = await verify(owner)
    assert (report.findings, report.days, report.rows, report.newest) == ([], 2, 26, second.digest.hex())


async def test_two_who_make_them_at_once_make_each_once(
    store: AuditStore, people: psycopg.Connection, migrated: str
) -> None:
    await fill(store)
    age(people, 6)
    last = days_ago(people, 2)

    async def one() -> list[Digest]:
        async with await psycopg.AsyncConnection.connect(migrated, autocommit=True) as connected:
            return await make(connected, last)

    made = [each.day for some in await asyncio.gather(one(), one(), one()) for each in some]
    assert sorted(made) == [last - timedelta(days=n) for n in range(4, -1, -1)]


async def test_a_day_that_is_not_over_is_refused(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    for late in (days_ago(people, 0), days_ago(people, -1)):
        with pytest.raises(AuditRefused, match=f"{late} has no digest yet: it is settled 15 minutes after"):
            await make(owner, late)
    made = await make(owner)
    first_open, _ = await digests.settled(owner)
    assert [each.day for each in made][-1:] == [first_open - timedelta(days=1)]


async def test_a_day_is_not_settled_while_a_transaction_of_it_is_open(
    day: date, people: psycopg.Connection, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(digests._SQL, "open_since", b"SELECT now() - interval '2 days'")
    with pytest.raises(AuditRefused, match=r"a transaction that began at .* UTC is still open"):
        await make(owner, days_ago(people, 2))


async def test_an_open_transaction_that_writes_is_seen(people: psycopg.Connection, owner: Connection) -> None:
    query = digests._SQL["open_since"]
    with people.transaction():
        began = people.execute("SELECT now(), pg_current_xact_id()").fetchone()[0]
        assert await (await owner.execute(query)).fetchone() == (began,)
    assert (await (await owner.execute(query)).fetchone())[0] != began


async def test_a_digest_depends_on_no_setting_of_a_session_and_on_no_order_of_rows(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    rows, apart = "ml_learning.dead_letters", "ml_learning.apart"
    # So many that some share the first two bytes of their hashes, and are hashed together.
    behind_the_back(
        people,
        f"INSERT INTO {rows} SELECT topic_id, partition, request_offset, n, reason, field, expected, known_at"
        f" FROM {rows}, generate_series(10, 1000) AS n",
        f"CREATE TABLE {apart} AS SELECT * FROM {rows}",
    )
    was = await of_day(owner, day)
    assert was["dead_letters"].rows == 3 + 3 * 991
    for setting in (
        "timezone = 'Asia/Kathmandu'", "datestyle = 'German, DMY'", "extra_float_digits = -15",
        "bytea_output = 'escape'", "client_encoding = 'LATIN1'", "search_path = 'pg_temp'",
    ):  # fmt: skip
        await owner.execute(f"SET {setting}".encode())
    assert await of_day(owner, day) == was
    for order in ("attempt, request_offset", "request_offset DESC, attempt DESC", "md5(t::text)"):
        behind_the_back(
            people, f"DELETE FROM {rows}", f"INSERT INTO {rows} SELECT * FROM {apart} AS t ORDER BY {order}"
        )
        assert await of_day(owner, day) == was


async def test_the_services_rights_are_enough_to_make_digests_and_to_verify_them(
    day: date, migrated: str, people: psycopg.Connection
) -> None:
    as_service = psycopg.conninfo.make_conninfo(migrated, options="-c role=pointsman_service")
    async with await psycopg.AsyncConnection.connect(as_service, autocommit=True) as connected:
        (made,) = await make(connected, days_ago(people, 2))
        assert made.day == day + timedelta(days=2)
        report = await verify(connected)
        assert (report.findings, report.days, report.contents) == ([], 3, 2)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connected.execute("DELETE FROM ml_learning.audit_digests")


async def test_a_dump_that_is_restored_fits_the_digests(
    day: date, store: AuditStore, people: psycopg.Connection, migrated: str, postgres: str
) -> None:
    odd = {
        "confidence": 0.1 + 0.2,
        "reason": "ü\n\\\t'",
        "features": Raw(b'{"x": 1e-7, "y": 1.0, "z": -0.0}'),
    }
    await fill(store, 3, **odd)
    age(people, 1)
    programs = system_programs() or packaged_programs()
    if people.info.server_version // 10_000 > version_of(programs):
        pytest.skip(f"pg_dump in {programs} is older than the server: its own is needed")
    async with await psycopg.AsyncConnection.connect(migrated, autocommit=True) as connected:
        # The days moved with their rows; so did no digest.
        was = [await of_day(connected, days_ago(people, days)) for days in (1, DAYS + 1)]
    assert [tables["agent_decisions"].rows for tables in was] == [1, 3]
    with fresh_database(postgres) as copy:
        dump = subprocess.run([programs / "pg_dump", "-d", migrated], capture_output=True, check=True).stdout
        with psycopg.connect(copy, autocommit=True) as restored:
            in_chunks = (await edition.look(migrated)).server.installed is not None
            if in_chunks:  # as TimescaleDB asks for it, around every restore
                restored.execute("CREATE EXTENSION timescaledb")
                restored.execute("SELECT timescaledb_pre_restore()")
            command = [programs / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", copy]
            subprocess.run(command, input=dump, stdout=subprocess.DEVNULL, check=True)
            if in_chunks:
                restored.execute("SELECT timescaledb_post_restore()")
        async with await psycopg.AsyncConnection.connect(copy, autocommit=True) as connected:
            assert [await of_day(connected, days_ago(people, days)) for days in (1, DAYS + 1)] == was


# -- what is done behind its back ------------------------------------------------------------------------

OTHER = {
    "text": "coalesce({c}, '') || 'x'", "timestamp with time zone": "coalesce({c}, now()) + interval '1 microsecond'",
    "boolean": "NOT {c}", "jsonb": """'{{"other": 1}}'""", "bytea": "sha256(coalesce({c}, ''))",
    "double precision": "coalesce({c}, 0) * (1 + 1e-15) + 1e-300", "date": "coalesce({c}, current_date) - 100",
    "bigint": "coalesce({c}, 0) + 1", "integer": "coalesce({c}, 0) + 1", "smallint": "coalesce({c}, 0) + 1",
}  # fmt: skip
"""By type another value, as near as can be."""


def columns(people: psycopg.Connection, table: str) -> dict[str, str]:
    query = (
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'ml_learning' AND table_name = %s"
    )
    return dict(people.execute(query, (table,)).fetchall())


def test_every_table_that_says_when_its_rows_came_is_digested_or_personal_or_derived(
    people: psycopg.Connection,
) -> None:
    query = (
        "SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'ml_learning' AND table_type = 'BASE TABLE' AND column_name = 'known_at'"
    )
    found = {name for (name,) in people.execute(query)}
    meant = {
        "agent_measures",
        "satisfaction_weights",
        "drift",
    }  # what figures mean, and what is computed from counts; of what was decided they say nothing
    assert found - {"feedback_contents", "decision_truths", "audit_digests"} - meant == set(TABLES)


async def test_no_value_of_a_row_can_be_changed_unseen(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    was = await of_day(owner, day)
    for table, (column, kind) in ((each, item) for each in TABLES for item in columns(people, each).items()):
        value = "seq + 1000" if column == "seq" else OTHER[kind].format(c=column)
        where = f"ml_learning.{table}"
        # The tables' own rules would refuse some values before a digest could see them.
        rules = (
            *(f"DROP CONSTRAINT IF EXISTS {table}_{name}" for name in ("kind_check", "check", "check1")),
            *(("ALTER seq DROP IDENTITY",) if column == "seq" else ()),
        )
        async with owner.transaction(force_rollback=True):
            await owner.execute("SET LOCAL session_replication_role = replica")
            for rule in rules:
                await owner.execute(f"ALTER TABLE {where} {rule}".encode())
            one = f"(SELECT ctid FROM {where} LIMIT 1)"
            cursor = await owner.execute(f"UPDATE {where} SET {column} = {value} WHERE ctid = {one}".encode())
            assert cursor.rowcount == 1, column
            now = await of_day(owner, day)
            assert {name for name in TABLES if now[name] != was[name]} == {table}, f"{table}.{column}"
    assert await of_day(owner, day) == was


async def test_a_topic_that_is_called_otherwise_is_seen(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    behind_the_back(people, "UPDATE ml_learning.kafka_topics SET topic = topic || 'x'")
    assert {table for _, table in said(await verify(owner))} == {
        "agent_decisions", "decision_shadows", "decision_histories", "dead_letters", "lane_ledger",
    }  # fmt: skip


KEYS = {
    "agent_decisions": "request_offset", "decision_shadows": "request_offset", "decision_feedback": "seq",
    "decision_histories": "request_offset", "dead_letters": "request_offset", "lane_ledger": "start_offset",
    "audit_deletions": "seq",
}  # fmt: skip


@pytest.mark.parametrize("what", ["changed", "deleted", "added"])
async def test_a_row_that_was_changed_deleted_or_added_is_found_by_day_and_table(
    day: date, people: psycopg.Connection, owner: Connection, what: str
) -> None:
    for table in TABLES:
        where, key = f"ml_learning.{table}", KEYS[table]
        one = f"{key} = (SELECT min({key}) FROM {where})"
        names = list(columns(people, table))
        copied = ", ".join(f"{name} + 1000" if name == key else name for name in names)
        commands = {
            "changed": f"UPDATE {where} SET known_at = known_at + interval '1 microsecond' WHERE {one}",
            "deleted": f"DELETE FROM {where} WHERE {one}",
            "added": f"INSERT INTO {where} ({', '.join(names)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {copied} FROM {where} WHERE {one}",
        }
        async with owner.transaction(force_rollback=True):
            await owner.execute("SET LOCAL session_replication_role = replica")
            await owner.execute(commands[what].encode())
            report = await verify(owner)
        (found,) = [each for each in report.findings if not each.table.endswith("contents")]
        assert (found.day, found.table) == (day, table)
        assert ("other values" in found.what) == (what == "changed")
    assert (await verify(owner)).findings == []


async def test_a_row_of_before_the_first_digest_is_found(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    behind_the_back(
        people,
        "INSERT INTO ml_learning.dead_letters SELECT topic_id, partition, request_offset, 99, reason, field, expected,"
        " known_at - interval '9 days', taken_topic_id, taken_offset FROM ml_learning.dead_letters",
    )
    what = f"has rows of before {day}, the first day with a digest"
    assert (await verify(owner)).findings == [Finding(None, "dead_letters", what)]


async def test_no_value_of_a_digest_can_be_changed_unseen(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    for column, kind in columns(people, "audit_digests").items():
        value = "seq + 1000" if column == "seq" else OTHER[kind].format(c=column)
        async with owner.transaction(force_rollback=True):
            await owner.execute("SET LOCAL session_replication_role = replica")
            await owner.execute(
                f"UPDATE ml_learning.audit_digests SET {column} = {value} WHERE seq = 1".encode()
            )
            if column == "form":
                with pytest.raises(AuditRefused, match="form 2, newer than this program"):
                    await verify(owner)
                continue
            assert "audit_digests" in {table for _, table in said(await verify(owner))}, column
    assert (await verify(owner)).findings == []


async def test_a_digest_that_is_gone_breaks_the_chain_and_the_newest_is_known_by_who_noted_it(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    noted = (await verify(owner)).newest
    assert (await verify(owner, noted=noted.upper())).findings == []
    behind_the_back(people, "DELETE FROM ml_learning.audit_digests WHERE seq = 1")
    assert (day + timedelta(days=1), "audit_digests") in said(await verify(owner))
    behind_the_back(people, "DELETE FROM ml_learning.audit_digests")
    assert (await verify(owner)).findings == [], "who deletes them all is found only from outside"
    what = f"no row has the digest {noted}"
    assert (await verify(owner, noted=noted)).findings == [Finding(None, "audit_digests", what)]


async def test_a_digest_that_was_made_anew_does_not_fit_the_next_one(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    behind_the_back(people, "UPDATE ml_learning.dead_letters SET reason = 'other'")
    first, second = await digests.all_digests(owner)
    forged = replace(first, tables=await of_day(owner, day))
    forged = replace(forged, digest=forged.computed())
    values = (msgspec.json.encode(forged.tables).decode(), forged.digest)
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute(
            "UPDATE ml_learning.audit_digests SET tables = %s::jsonb, digest = %s WHERE seq = 1", values
        )
    what = "row 2 does not follow the one before it"
    assert (await verify(owner)).findings == [Finding(second.day, "audit_digests", what)]


async def test_a_window_is_compared_alone(day: date, people: psycopg.Connection, owner: Connection) -> None:
    behind_the_back(people, "UPDATE ml_learning.dead_letters SET reason = 'other'")
    after = day + timedelta(days=1)
    assert (await verify(owner, since=after)).findings == []
    assert (await verify(owner, before=day)).findings == []
    assert said(await verify(owner, since=day, before=after)) == {(day, "dead_letters")}


async def test_contents_that_do_not_fit_their_commitment_are_found_and_missing_ones_are_none(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    assert (await verify(owner)).contents == 2
    changes = {
        "decision_contents": ("unit = 'other'", "input = '{}'", "salt = '\\x00'", "unit = NULL"),
        "feedback_contents": ("unit = 'other'", "content = '{}'", "salt = '\\x00'", "event_id = 'x'"),
    }
    for table, each in changes.items():
        for change in each:
            async with owner.transaction(force_rollback=True):
                await owner.execute("SET LOCAL session_replication_role = replica")
                await owner.execute(f"UPDATE ml_learning.{table} SET {change}".encode())
                (found,) = (await verify(owner)).findings
                assert (found.day, found.table) == (None, table), change
                assert found.what.startswith("1 of 1 do not fit the commitment in their row"), change
    people.execute("DELETE FROM ml_learning.decision_contents")
    people.execute("DELETE FROM ml_learning.feedback_contents")
    report = await verify(owner)
    assert (report.findings, report.contents) == ([], 0)


async def test_a_day_can_be_revised_with_a_reason_and_the_first_digest_stays(
    day: date, people: psycopg.Connection, owner: Connection
) -> None:
    with pytest.raises(AuditRefused, match="fit its digest; there is nothing to revise"):
        await revise(owner, day, "no reason")
    behind_the_back(people, "UPDATE ml_learning.dead_letters SET reason = 'other'")
    before = await digests.all_digests(owner)
    new = await revise(owner, day, "a clock that stood wrong")
    report = await verify(owner)
    assert (report.findings, report.revised) == ([], [new])
    assert (new.revision, new.why, new.previous) == (2, "a clock that stood wrong", before[-1].digest)
    assert await digests.all_digests(owner) == [*before, new]
    with pytest.raises(AuditRefused, match="has no digest to revise"):
        await revise(owner, days_ago(people, 0), "too early")
