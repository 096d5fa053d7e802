"""Migrations: the numbered `.sql` files of `infra/sql`, applied in order, each in its own transaction."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Literal

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection

from pointsman.streams.store.errors import MigrationError, translated
from pointsman.streams.store.queries import load

_FILE: Final = re.compile(r"^(\d{4})_(\w+)\.sql$")
_SQL: Final = load("migrate.sql")
LOCK: Final = _SQL["lock"]
"""Whoever changes tables takes it first, for the transaction."""


class Migration(Struct, frozen=True):
    """One file: its number, its words, its text and the SHA-256 of that."""

    version: int
    name: str
    sql: str
    checksum: str


class MigrationState(Struct, frozen=True):
    """How a migration stands in a database. ``changed``: applied, but with another text."""

    version: int
    name: str
    state: Literal["applied", "pending", "changed", "unknown"]
    applied_at: datetime | None = None


class Applied(Struct, frozen=True):
    """A row of `ml_learning.schema_migrations`."""

    version: int
    name: str
    checksum: str
    applied_at: datetime


def migrations(package: str = "pointsman.infra.sql") -> list[Migration]:
    """The migrations of a package, in order. Raises `MigrationError` if a number is missing or used twice."""
    found = []
    for file in files(package).iterdir():
        if match := _FILE.match(file.name):
            sql = file.read_bytes().replace(b"\r\n", b"\n").decode()
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            found.append(Migration(int(match[1]), match[2], sql, checksum))
    found.sort(key=lambda migration: (migration.version, migration.name))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        msg = f"migrations of {package} must count 0001, 0002, … without gap: {[m.version for m in found]}"
        raise MigrationError(msg)
    return found


async def migrate(dsn: str, known: list[Migration] | None = None) -> list[str]:
    """Applies what is pending and returns its names, as ``0001_audit``.

    Safe to call twice and from several processes at once: each step holds a lock until its commit, and looks
    again what is applied once it has the lock. Raises `MigrationError` for a changed or an unknown migration,
    `StoreUnavailable` if the server does not answer.
    """
    known = migrations() if known is None else known
    done: list[str] = []
    async with translated(), await connect(dsn) as connection:
        while step := await _step(connection, known):
            done.append(f"{step.version:04}_{step.name}")
    return done


async def status(dsn: str, known: list[Migration] | None = None) -> list[MigrationState]:
    """Every migration that the program or the database knows, in order. Changes nothing."""
    known = migrations() if known is None else known
    async with translated(), await connect(dsn) as connection:
        return compare(known, await _applied(connection))


async def plan(dsn: str, known: list[Migration] | None = None) -> list[Migration]:
    """What `migrate` would apply. Changes nothing; raises as `migrate` does."""
    known = migrations() if known is None else known
    states = await status(dsn, known)
    _check(states)
    pending = {state.version for state in states if state.state == "pending"}
    return [migration for migration in known if migration.version in pending]


def compare(known: list[Migration], applied: dict[int, Applied]) -> list[MigrationState]:
    """The state of each migration, in order of its number."""
    states = []
    by_version = {migration.version: migration for migration in known}
    for version in sorted({*by_version, *applied}):
        ours, row = by_version.get(version), applied.get(version)
        if row is None:
            states.append(MigrationState(version, by_version[version].name, "pending"))
        elif ours is None:
            states.append(MigrationState(version, row.name, "unknown", row.applied_at))
        else:
            same = ours.checksum == row.checksum
            states.append(MigrationState(version, row.name, "applied" if same else "changed", row.applied_at))
    return states


def _check(states: list[MigrationState]) -> None:
    for state in states:
        name = f"{state.version:04}_{state.name}"
        if state.state == "changed":
            msg = f"migration {name} was changed after it was applied: add a new file instead"
            raise MigrationError(msg)
        if state.state == "unknown":
            msg = f"the database has migration {name}, newer than this program: update it"
            raise MigrationError(msg)


async def connect(dsn: str) -> AsyncConnection[Any]:
    """A connection for changing tables."""
    return await AsyncConnection.connect(dsn, autocommit=True, application_name="pointsman migrate")


async def _step(connection: AsyncConnection[Any], known: list[Migration]) -> Migration | None:
    async with connection.transaction():
        await connection.execute(LOCK)
        await connection.execute(_SQL["create_versions"])
        states = compare(known, await _applied(connection))
        _check(states)
        pending = [state.version for state in states if state.state == "pending"]
        if not pending:
            return None
        migration = known[pending[0] - 1]
        await _apply(connection, migration)
        return migration


async def _apply(connection: AsyncConnection[Any], migration: Migration) -> None:
    try:
        await connection.execute(migration.sql.encode())
    except psycopg.Error as error:
        error.add_note(f"in migration {migration.version:04}_{migration.name}")
        raise
    await connection.execute(_SQL["record"], (migration.version, migration.name, migration.checksum))


async def _applied(connection: AsyncConnection[Any]) -> dict[int, Applied]:
    exists = await (await connection.execute(_SQL["versions_exist"])).fetchone()
    if exists is None or not exists[0]:
        return {}
    rows = await (await connection.execute(_SQL["applied"])).fetchall()
    return {row[0]: Applied(*row) for row in rows}
