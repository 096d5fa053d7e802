"""Errors of the store, and the one place where the driver's errors become ours.

StoreUnavailable          the database cannot do it now: wait, read the position again, go on
├── NotMigrated           its tables are missing or older than this program
OffsetConflict            another writer has written from here: read the position again
MigrationError            the applied migrations are not those of this program
AuditRefused              what was asked of the audit may not be, or not yet
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, Final

import psycopg
import psycopg_pool

from pointsman.schemas.errors import PointsmanError


class StoreUnavailable(PointsmanError):
    """The database is not reachable, starting, read-only, full or too busy.

    After it the position must be read again: a commit may have arrived although its answer did not.
    """

    retriable: ClassVar[bool] = True


class NotMigrated(StoreUnavailable):
    """A table or column is missing; `pointsman db migrate` mends it."""


class OffsetConflict(PointsmanError):
    """The stored offset is not the batch's start: another writer was faster. Nothing was written."""

    retriable: ClassVar[bool] = True

    def __init__(self, lane: str, topic: str, partition: int, start: int) -> None:
        super().__init__(
            f"{lane} does not stand at {start} of {topic}[{partition}]: read its position and go on from there"
        )


class MigrationError(PointsmanError):
    """An applied migration was changed, is missing, or is newer than this program."""


class AuditRefused(PointsmanError):
    """A digest, an expiry or a deletion that may not be, or not yet; the message says why."""


_PASSING_STATES: Final = ("08", "25006", "28", "3D", "40", "53", "55P03", "57", "58")
"""Beginnings of SQLSTATEs that pass or that an operator mends: connection, standby, log-in, missing database,
deadlock, out of resources (53100: disk full), locked, shutting down or cancelled, input and output."""
_MISSING_STATES: Final = ("42P01", "42703", "42883", "3F000")
"""Undefined table, column, function, schema."""


def translate(error: psycopg.Error) -> PointsmanError | None:
    """Our error for the driver's, or None if it is a bug."""
    state = error.sqlstate
    if state is None:
        lost = isinstance(error, psycopg.OperationalError)
        return StoreUnavailable(f"the database does not answer: {_first_line(error)}") if lost else None
    if state.startswith(_MISSING_STATES):
        return NotMigrated(f"{_first_line(error)}: run `pointsman db migrate`")
    if state.startswith(_PASSING_STATES):
        return StoreUnavailable(f"the database refuses for now ({state}): {_first_line(error)}")
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Raises our error, with the driver's as its cause, where waiting or an operator can mend it."""
    try:
        yield
    except (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests) as error:
        msg = f"no connection to the database: {_first_line(error)}"
        raise StoreUnavailable(msg) from error
    except psycopg.Error as error:
        if (ours := translate(error)) is None:
            raise
        raise ours from error
