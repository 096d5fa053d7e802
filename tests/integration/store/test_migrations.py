"""Migrations run once, in order, whoever asks and however often, and notice what was changed behind them."""

import asyncio
import subprocess
import sys

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict

from pointsman.streams.store import MigrationError, NotMigrated, StoreUnavailable
from pointsman.streams.store.audit import AuditStore
from pointsman.streams.store.migrate import Migration, migrate, migrations, plan, status

NAMES = [f"{migration.version:04}_{migration.name}" for migration in migrations()]


async def test_all_are_applied_in_order_and_a_second_run_applies_none(database: str) -> None:
    assert await migrate(database) == NAMES
    assert await migrate(database) == []


async def test_plan_and_status_change_nothing(database: str) -> None:
    planned = await plan(database)
    assert [migration.sql for migration in planned] == [migration.sql for migration in migrations()]
    assert {state.state for state in await status(database)} == {"pending"}
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT to_regnamespace('ml_learning')").fetchone()
    assert row == (None,)


async def test_status_says_when_each_was_applied(database: str) -> None:
    await migrate(database)
    states = await status(database)
    assert [state.state for state in states] == ["applied"] * len(NAMES)
    assert all(state.applied_at is not None for state in states)


def test_four_processes_at_once_apply_each_once(database: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from pointsman.streams.store.migrate import migrate\n"
        "print(*asyncio.run(migrate(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", program, database]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(name for names in printed for name in names) == NAMES


async def test_tasks_of_one_process_at_once_apply_each_once(database: str) -> None:
    applied = await asyncio.gather(*(migrate(database) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == NAMES


async def test_a_changed_file_is_refused_by_name(database: str) -> None:
    await migrate(database)
    changed = [replace(migrations()[0], checksum="0" * 64), *migrations()[1:]]
    with pytest.raises(MigrationError, match=f"{NAMES[0]} was changed"):
        await migrate(database, changed)
    with pytest.raises(MigrationError, match="was changed"):
        await plan(database, changed)


async def test_a_database_that_is_newer_than_the_program_is_refused(database: str) -> None:
    await migrate(database)
    with pytest.raises(MigrationError, match=f"{NAMES[-1]}, newer than this program"):
        await migrate(database, migrations()[:-1])


async def test_a_step_that_fails_leaves_those_before_it_and_nothing_of_its_own(database: str) -> None:
    number = len(NAMES) + 1
    broken = Migration(number, "broken", "CREATE TABLE ml_learning.half (a integer); SELECT 1 / 0;", "c" * 64)
    with pytest.raises(psycopg.errors.DivisionByZero) as caught:
        await migrate(database, [*migrations(), broken])
    assert caught.value.__notes__ == [f"in migration {number:04}_broken"]
    assert [state.state for state in await status(database)] == ["applied"] * len(NAMES)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('ml_learning.half')").fetchone() == (None,)


async def test_each_earlier_version_can_be_brought_to_the_newest(database: str) -> None:
    for upto in range(1, len(NAMES) + 1):
        assert await migrate(database, migrations()[:upto]) == [NAMES[upto - 1]]


async def test_a_role_that_may_not_make_roles_migrates_too(database: str) -> None:
    owner = f"owner_{conninfo_to_dict(database)['dbname']}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {owner} LOGIN NOCREATEROLE".encode())
        connection.execute(f"GRANT ALL ON DATABASE {connection.info.dbname} TO {owner}".encode())
    try:
        assert await migrate(psycopg.conninfo.make_conninfo(database, options=f"-c role={owner}")) == NAMES
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {owner}".encode())
            connection.execute(f"DROP ROLE {owner}".encode())


async def test_a_store_on_a_database_without_tables_says_what_to_do(database: str) -> None:
    async with AuditStore(database) as store:
        with pytest.raises(NotMigrated, match="pointsman db migrate"):
            await store.position("sink", "c", "t", 0)


async def test_no_server_is_an_error_that_may_pass_and_shows_no_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await migrate("host=127.0.0.1 port=1 user=u password=hushed dbname=d")
    assert caught.value.retriable
    assert "hushed" not in str(caught.value)
