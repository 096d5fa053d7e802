"""Real PostgreSQL for tests: a server of our own from the system's programs (else the wheel's), or one that runs already."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from infra.dev import real_parts
from pointsman.streams.embedded.postgres import EmbeddedPostgres


class PostgresServer(EmbeddedPostgres):
    """One PostgreSQL of our own: the newest of the system's, else the one in the wheel; temporary unless `data_dir`."""

    def __init__(self, data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir, programs=system_programs(), settings=settings)


def system_programs() -> Path | None:
    """The folder of the system's PostgreSQL server, or None when the wheel's has to do."""
    try:
        return real_parts.postgres_bin()
    except real_parts.MissingPart:
        return None


@contextmanager
def fresh_database(server_dsn: str, *, template: str = "template0") -> Iterator[str]:
    """The connection string of a new data base, made from `template` and dropped afterwards, with who is still in it."""
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
