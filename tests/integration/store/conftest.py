"""A migrated data base for each test: copied from one that is migrated once."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict

from pointsman.streams.store import AuditStore
from pointsman.streams.store.migrate import migrate
from tests.support.postgres import fresh_database


@pytest.fixture(scope="session")
def migrated_template(postgres: str) -> Iterator[str]:
    """Name of a migrated, empty data base."""
    with fresh_database(postgres) as dsn:
        asyncio.run(migrate(dsn))
        yield str(conninfo_to_dict(dsn)["dbname"])


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
