"""Real PostgreSQL for tests: a server from the system's programs, or else from the wheel's."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pointsman.infra.dev import real_parts
from pointsman.streams.embedded.postgres import EmbeddedPostgres


class PostgresServer(EmbeddedPostgres):
    """One PostgreSQL of our own: the system's newest, else the wheel's; temporary unless `data_dir`."""

    def __init__(self, data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, programs=system_programs(), settings=settings)


def system_programs() -> Path | None:
    """The folder of the system's PostgreSQL server, or None when the wheel's has to do."""
    try:
        return real_parts.postgres_bin()
    except real_parts.MissingPartError:
        return None


@contextmanager
def fresh_database(server_dsn: str, *, template: str = "template0") -> Iterator[str]:
    """A new data base made from `template`, by its connection string; dropped afterwards, in use or not."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as server:
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    try:
        yield make_conninfo(server_dsn, dbname=name)
    finally:
        with psycopg.connect(server_dsn, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
