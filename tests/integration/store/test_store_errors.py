"""A database that is away, restarts or may not make roles: waiting mends it, and nothing is lost."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pointsman.streams.embedded.postgres import EmbeddedPostgres
from pointsman.streams.store import AuditStore, OffsetConflict, StoreUnavailable, WriteResult
from pointsman.streams.store.migrate import migrate
from tests.integration.store.helpers import batch, count
from tests.support.outcomes import outcome
from tests.support.postgres import PostgresServer


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user of the server can enter, which pytest's own is not for root."""
    with tempfile.TemporaryDirectory(prefix="pointsman-store-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


async def start(server: PostgresServer, link: Path) -> None:
    """Starts a server; its socket is found through the same link each time."""
    await asyncio.to_thread(server.start)
    link.unlink(missing_ok=True)
    link.symlink_to(str(conninfo_to_dict(server.dsn)["host"]))


async def test_a_store_opens_without_its_server_and_goes_on_once_it_runs_and_after_it_was_killed(
    folder: Path,
) -> None:
    link = folder / "sockets"
    server = PostgresServer(folder / "data")
    dsn = f"host={link} user=pointsman dbname=pointsman"
    async with AuditStore(dsn, wait_s=1) as store:
        with pytest.raises(StoreUnavailable):
            await store.position("sink", "cluster-1", "t", 0)
        try:
            await start(server, link)
            await migrate(dsn)
            assert await within(20, store) == 1
            await asyncio.to_thread(server.kill)
            with pytest.raises(StoreUnavailable):
                await store.write(batch(1, 2, [outcome(1)]))
            await start(server, link)
            assert await within(20, store) == 2
        finally:
            await asyncio.to_thread(server.stop)


async def within(seconds: float, store: AuditStore) -> int:
    """Writes the next outcome as the sink does: again and again, reading its position after each error."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                start = await store.position("sink", "cluster-1", "decision-outcomes", 0) or 0
                assert await store.write(batch(start, start + 1, [outcome(start)])) == WriteResult(outcomes=1)
                return start + 1
            except StoreUnavailable:
                await asyncio.sleep(0.1)


async def test_an_ended_session_is_an_error_that_may_pass(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome(0)]))
    people.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pointsman'"
                   " AND datname = current_database()")  # fmt: skip
    with pytest.raises(StoreUnavailable):
        await store.write(batch(1, 2, [outcome(1)]))
    assert await within(20, store) == 2


async def test_a_lock_that_stays_is_given_up_at_the_deadline(migrated: str) -> None:
    async with AuditStore(migrated, deadline_s=0.5) as store:
        with psycopg.connect(migrated) as rival:
            rival.execute("LOCK ml_learning.agent_decisions")
            with pytest.raises(StoreUnavailable, match=r"within 0\.5 s"):
                await store.write(batch(0, 1, [outcome(0)]))
        assert await within(20, store) == 1


async def test_a_bug_stays_what_it_is(store: AuditStore) -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        async with store.connection() as connection:
            await connection.execute("SELEC 1")


@pytest.fixture
def newest() -> Iterator[str]:
    """A server of the wheel's own version, without any role but its first."""
    with EmbeddedPostgres() as server:
        yield server.dsn


async def test_the_newest_postgresql_serves_as_the_oldest(newest: str) -> None:
    await migrate(newest)
    async with AuditStore(newest) as store:
        assert await store.write(batch(0, 2, [outcome(0), outcome(1)])) == WriteResult(outcomes=2)
        assert await store.write(batch(2, 4, [outcome(1), outcome(2)])) == WriteResult(
            outcomes=1, duplicates=1
        )
        assert await store.take_over("sink", "cluster-1", "decision-outcomes", 0) == 4
        with pytest.raises(OffsetConflict):
            await store.write(batch(0, 1))
        async with store.connection() as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("DELETE FROM ml_learning.agent_decisions")


async def test_where_roles_may_not_be_made_all_works_and_triggers_still_guard(newest: str) -> None:
    with psycopg.connect(newest, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN NOCREATEROLE")
        connection.execute("GRANT ALL ON DATABASE pointsman TO plain")
    plain = psycopg.conninfo.make_conninfo(newest, user="plain")
    await migrate(plain)
    async with AuditStore(plain) as store:
        assert await store.write(batch(0, 1, [outcome(0)])) == WriteResult(outcomes=1)
        assert await store.take_over("sink", "cluster-1", "decision-outcomes", 0) == 1
    with psycopg.connect(plain, autocommit=True) as connection:
        assert (
            connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'pointsman_%'").fetchall()
            == []
        )
        assert count(connection, "agent_decisions") == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only: DELETE"):
            connection.execute("DELETE FROM ml_learning.agent_decisions")
