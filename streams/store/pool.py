"""The pool: a few connections, each in UTC and in the service's role where that exists."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pointsman.streams.store.queries import load

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]
Pool: TypeAlias = AsyncConnectionPool[Connection]

_SQL: Final = load("pool.sql")
_KEEPALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "connect_timeout": 5,
}
"""Seconds. A server that vanished is noticed after 25 s instead of the two hours of most systems."""

_RECONNECT_S: Final = 3.0
"""The pool doubles its pause after each failed attempt; given up early, the next caller starts it afresh, so
that a database that was away for an hour is found within seconds of its return."""


async def value(connection: Connection, query: Any, values: Any = None) -> Any:
    """The first column of a query's one row."""
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None, "asked for one value"
    return row[0]


def make_pool(dsn: str, size_max: int, wait_s: float) -> Pool:
    """A pool that is not open yet. ``wait_s``: how long to wait for a connection before giving up."""
    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=size_max,
        open=False,
        timeout=wait_s,
        configure=_configure,
        kwargs={"application_name": "pointsman", "autocommit": True, **_KEEPALIVE},
        name="pointsman",
        reconnect_timeout=_RECONNECT_S,
    )


async def _configure(connection: Connection) -> None:
    await connection.execute(_SQL["in_utc"])
    await connection.execute(_SQL["unpack_without_bound"])
    row = await (await connection.execute(_SQL["may_serve"])).fetchone()
    if row is not None and row[0]:
        await connection.execute(_SQL["serve"])
