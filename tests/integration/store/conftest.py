"""A migrated data base for each test, copied from one that is migrated once, on each server in turn."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict

from pointsman.streams.store import AuditStore, edition
from pointsman.streams.store.migrate import migrate
from tests.support.postgres import fresh_database

NAMED = "POINTSMAN_TEST_DSN" in os.environ
PLAIN, TIMESCALE = ("plain_postgres", "plain_template"), ("timescale", "timescale_template")
"""Fixtures: a server, and a data base on it to be copied."""


PLAIN_ALONE = {"test_migrations", "test_store_errors", "test_unfit"}
"""Modules of what no edition changes: files applied in order, servers that go, values that no column holds."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """This suite runs on PostgreSQL and on TimescaleDB's Apache edition, or on the server that is named."""
    if "where" in metafunc.fixturenames:
        alone = NAMED or metafunc.module.__name__.rpartition(".")[2] in PLAIN_ALONE
        found = {"postgres": PLAIN} if alone else {"postgres": PLAIN, "timescale": TIMESCALE}
        metafunc.parametrize("where", found.values(), ids=found, indirect=True, scope="session")


@pytest.fixture(scope="session")
def where(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The server of this run of the test, and the data base on it to be copied, as fixtures."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, where: tuple[str, str]) -> str:
    """The connection string of the server of this run of the test."""
    return str(request.getfixturevalue(where[0]))


@pytest.fixture(scope="session")
def migrated_template(request: pytest.FixtureRequest, where: tuple[str, str]) -> str:
    """Name of a migrated, empty data base on it."""
    return str(request.getfixturevalue(where[1]))


@pytest.fixture(scope="session")
def plain_template(plain_postgres: str) -> Iterator[str]:
    """The one on PostgreSQL, or on the server that is named."""
    with migrated_once(plain_postgres) as name:
        yield name


@pytest.fixture(scope="session")
def timescale_template(timescale: str) -> Iterator[str]:
    """The one on TimescaleDB's Apache edition."""
    with migrated_once(timescale) as name:
        yield name


@contextmanager
def migrated_once(server: str) -> Iterator[str]:
    """A data base with all that its server's edition allows, closed: nobody may be in it while it is copied."""
    with fresh_database(server) as dsn:
        asyncio.run(migrate(dsn))
        asyncio.run(edition.apply(dsn, edition.Wanted()))
        name = str(conninfo_to_dict(dsn)["dbname"])
        with psycopg.connect(server, autocommit=True) as people:
            people.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            # TimescaleDB's scheduler
            people.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
        yield name


@pytest.fixture
def chunked(request: pytest.FixtureRequest) -> Iterator[str]:
    """Connection string of a migrated data base of the test's own, on a server that has TimescaleDB."""
    server, template = (request.getfixturevalue(name) for name in (PLAIN if NAMED else TIMESCALE))
    with fresh_database(server, template=template) as dsn:
        if asyncio.run(edition.look(dsn)).server.installed is None:
            pytest.skip("the server that POINTSMAN_TEST_DSN names has no TimescaleDB")
        yield dsn


@pytest.fixture
def migrated(postgres: str, migrated_template: str) -> Iterator[str]:
    """Connection string of a migrated data base of the test's own."""
    with fresh_database(postgres, template=migrated_template) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def store(migrated: str) -> AsyncIterator[AuditStore]:
    """An open store on the migrated data base."""
    async with AuditStore(migrated) as opened:
        yield opened


@pytest.fixture
def people(migrated: str) -> Iterator[psycopg.Connection]:
    """A connection of the data base's owner, autocommit, in UTC."""
    with psycopg.connect(migrated, autocommit=True, options="-c timezone=UTC") as connection:
        yield connection
