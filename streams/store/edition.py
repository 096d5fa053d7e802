"""The edition step: after the migrations, what the server's edition of TimescaleDB allows and is not there yet.

The tables, their columns and the views are the same on plain PostgreSQL, on TimescaleDB's Apache edition and on its
full one. What differs lies beneath: hypertables, continuous aggregates, compression, retention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, Self, TypeAlias

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection

from pointsman.streams.settings import Settings
from pointsman.streams.store.errors import MigrationError, translated
from pointsman.streams.store.migrate import LOCK, connect
from pointsman.streams.store.queries import load

_SQL: Final = load("edition.sql")

CHUNK_DAYS: Final = 7
"""What finds a decision by its id looks into every chunk: 52 a year cost little, 365 would not."""
REFRESH_S: Final = 3
"""Label to figure in less than 10 s: this, the refresh itself, and the scheduler's own second."""

APPEND_ONLY: Final = {
    "agent_decisions": "created_at",
    "decision_contents": "created_at",
    "decision_shadows": "answered_at",
    "decision_feedback": "known_at",
    "feedback_contents": "known_at",
}
"""Tables of the audit that become hypertables, by the column of their time."""
AGGREGATES: Final = {
    "decision_hours": "decision_minute_shards",
    "decision_fallback_hours": "decision_fallback_shards",
    "decision_latency_hour_buckets": "decision_latency_shards",
    "decision_truth_hours": "decision_truth_shards",
    "decision_label_hours": "decision_label_shards",
}
"""Views by the hour, and the tables by the minute that they add up."""
MINUTES: Final = (
    *AGGREGATES.values(), "decision_score_shards", "decision_confidence_shards", "decision_flag_shards",
    "decision_shadow_shards",
)  # fmt: skip
"""Tables by the minute, which become hypertables too."""
HYPERTABLES: Final = APPEND_ONLY | dict.fromkeys(MINUTES, "minute")

EditionName: TypeAlias = Literal["postgresql", "apache", "timescale"]
SHOWN: Final[Mapping[str, str]] = {
    "postgresql": "PostgreSQL",
    "apache": "TimescaleDB, Apache edition",
    "timescale": "TimescaleDB, full edition",
}
FEATURES: Final = ("extension", "hypertables", "continuous aggregates", "compression", "retention")


class Wanted(Struct, frozen=True):
    """What the settings ask for; 0: not at all."""

    compress_after_days: int = 7
    aggregate_retention_days: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """From the settings of the same names."""
        return cls(settings.compress_after_days, settings.aggregate_retention_days)


class Server(Struct, frozen=True):
    """What a server is: ``installed`` is in this database, ``available`` could be, if ``preloaded`` and ``creatable``."""

    server: str
    installed: str | None = None
    available: str | None = None
    preloaded: bool = False
    creatable: bool = False
    license: str | None = None

    @property
    def edition(self) -> EditionName:
        """Which of the three it is now."""
        if self.installed is None:
            return "postgresql"
        return "timescale" if self.license == "timescale" else "apache"

    @property
    def may_grow(self) -> bool:
        """Whether the extension is not there and can be made."""
        return self.installed is None and self.available is not None and self.preloaded and self.creatable


class Policy(Struct, frozen=True):
    """What runs by itself; ``every_s`` only where it begins at the very beginning; ``failing``: so its last run ended."""

    after_days: int | None = None
    every_s: int | None = None
    failing: bool = False


class Found(Struct, frozen=True, kw_only=True):
    """What stands in a database."""

    server: Server
    hypertables: Mapping[str, bool] = {}
    """Name to whether it can be compressed."""
    views: frozenset[str] = frozenset()
    """By the hour, those that stand on a continuous aggregate."""
    policies: Mapping[tuple[str, str], Policy] = {}
    """By table or aggregate, and kind."""


class Step(Struct, frozen=True):
    """One thing to make, in a transaction of its own."""

    feature: str
    name: str
    sql: str


class Feature(Struct, frozen=True):
    """How something stands that an edition may have; ``way``: how to get it."""

    name: str
    state: Literal["present", "missing", "failing", "unavailable", "off"]
    found: str
    way: str = ""


class Made(Struct, frozen=True):
    """What was made; ``note``: why not more, where that is a surprise."""

    steps: list[str]
    note: str = ""


# -- what to make: pure ------------------------------------------------------------------------------


def steps(found: Found, wanted: Wanted) -> list[Step]:
    """What is missing, in order. Where the extension is to come first, its edition and so the rest are not known yet."""
    made = (
        [Step("extension", "extension timescaledb", _text("create_extension"))]
        if found.server.may_grow
        else []
    )
    if found.server.installed or made:
        made += _hypertables(found)
    if found.server.edition == "timescale":
        made += [*_aggregates(found), *_compression(found, wanted), *_retention(found, wanted)]
    return made


def _hypertables(found: Found) -> Iterator[Step]:
    for table, column in HYPERTABLES.items():
        if table not in found.hypertables:
            query = "append_only_hypertable" if table in APPEND_ONLY else "hypertable"
            yield Step(
                "hypertables",
                f"hypertable {table}",
                _text(query, table=table, column=column, days=CHUNK_DAYS),
            )


def _aggregates(found: Found) -> Iterator[Step]:
    feature = "continuous aggregates"
    for view in AGGREGATES:
        if view not in found.views:
            yield Step(feature, f"continuous aggregate {view}_cagg", _text(view))
        policy = found.policies.get((f"{view}_cagg", "refresh"))
        if policy is None or policy.every_s != REFRESH_S:
            text = _text("remove_refresh", table=view) + "\n" if policy else ""
            text += _text("add_refresh", table=view, seconds=REFRESH_S)
            yield Step(feature, f"refresh of {view}_cagg", text)


def _compression(found: Found, wanted: Wanted) -> Iterator[Step]:
    for table in MINUTES:
        if wanted.compress_after_days and not found.hypertables.get(table):
            yield Step("compression", f"compression of {table}", _text("enable_compression", table=table))
        yield from _policy(found, table, "compression", wanted.compress_after_days)


def _retention(found: Found, wanted: Wanted) -> Iterator[Step]:
    for table in MINUTES:
        yield from _policy(found, table, "retention", wanted.aggregate_retention_days)


def _policy(found: Found, table: str, kind: str, days: int) -> Iterator[Step]:
    policy = found.policies.get((table, kind))
    if (policy.after_days if policy else 0) == days:
        return
    texts = [_text(f"remove_{kind}", table=table)] if policy else []
    texts += [_text(f"add_{kind}", table=table, days=days)] if days else []
    what = f"after {days} days" if days else "no longer"
    yield Step(kind, f"{kind} of {table} {what}", "\n".join(texts))


def _text(query: str, **words: Any) -> str:
    return _SQL[query].decode().format(**words)


# -- how it stands: pure -----------------------------------------------------------------------------


def features(found: Found, wanted: Wanted) -> list[Feature]:
    """Each feature: whether it is there, and the way to get it where it is not."""
    pending = {name: sum(step.feature == name for step in steps(found, wanted)) for name in FEATURES}
    return [_feature(found, wanted, name, pending[name]) for name in FEATURES]


def _feature(found: Found, wanted: Wanted, name: str, pending: int) -> Feature:
    server = found.server
    if pending:
        return Feature(name, "missing", f"{pending} steps", "pointsman db migrate")
    if server.installed is None:
        return Feature(name, "unavailable", "", _way_to_extension(server))
    if name in FEATURES[2:] and server.edition == "apache":
        return Feature(
            name, "unavailable", "", "TimescaleDB's full edition (timescaledb.license = 'timescale')"
        )
    days = {"compression": wanted.compress_after_days, "retention": wanted.aggregate_retention_days}
    settings = {"compression": "compress_after_days", "retention": "aggregate_retention_days"}
    if name in days and not days[name]:
        return Feature(
            name, "off", f"{settings[name]} is 0", f"set {settings[name]}, then pointsman db migrate"
        )
    words = {
        "extension": f"timescaledb {server.installed}",
        "hypertables": f"{len(HYPERTABLES)} tables in chunks of {CHUNK_DAYS} days",
        "continuous aggregates": f"{len(AGGREGATES)} by the hour, refreshed every {REFRESH_S} s",
    } | {kind: f"{len(MINUTES)} tables after {after} days" for kind, after in days.items()}
    kind = "refresh" if name == "continuous aggregates" else name
    failing = [of for (of, what), policy in found.policies.items() if what == kind and policy.failing]
    if failing:
        return Feature(name, "failing", ", ".join(failing), "timescaledb_information.job_errors says why")
    return Feature(name, "present", words[name])


def _way_to_extension(server: Server) -> str:
    if server.may_grow:
        return "pointsman db migrate, then look again: the edition is known once the extension is made"
    if server.available is None:
        return "install TimescaleDB on the server"
    if not server.preloaded:
        return "add timescaledb to shared_preload_libraries, restart the server, then pointsman db migrate"
    return "CREATE EXTENSION timescaledb by a role that may, then pointsman db migrate"


# -- look and make -----------------------------------------------------------------------------------


async def look(dsn: str) -> Found:
    """What stands in a database. Changes nothing; raises `StoreUnavailable`."""
    async with translated(), await connect(dsn) as connection:
        return await _look(connection)


async def apply(dsn: str, wanted: Wanted) -> Made:
    """Makes what is missing, each step in its own transaction, and returns the names of the steps.

    Safe to call twice and from several processes at once, as `migrate` is, and after it. Where the server will not
    make the extension, all works without. Raises `MigrationError` for what the role may not do, `StoreUnavailable`.
    """
    done: list[str] = []
    note = ""
    async with translated(), await connect(dsn) as connection:
        while True:
            try:
                step = await _step(connection, wanted, done, alone=bool(note))
            except _ExtensionRefused as refusal:
                note = f"timescaledb is there and cannot be made: {refusal}"
                continue
            if step is None:
                return Made(done, note)
            done.append(step.name)


class _ExtensionRefused(Exception):
    """The server has the extension and does not make it, for a reason of its own."""


async def _step(
    connection: AsyncConnection[Any], wanted: Wanted, done: list[str], *, alone: bool
) -> Step | None:
    async with connection.transaction():
        await connection.execute(LOCK)
        found = await _look(connection)
        missing = steps(found, wanted)
        if not missing or (alone and found.server.installed is None):
            return None
        step = missing[0]
        if step.name in done:
            msg = f"{step.name} was made, and the database does not show it"
            raise MigrationError(msg)
        try:
            await connection.execute(step.sql.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            if step.feature == "extension":
                raise _ExtensionRefused(error) from error
            msg = f"{step.name}: {error} (the owner of the tables may: who migrated first)"
            raise MigrationError(msg) from error
        except psycopg.DatabaseError as error:
            if step.feature == "extension" and not isinstance(error, psycopg.OperationalError):
                raise _ExtensionRefused(error) from error
            error.add_note(f"in the step {step.name}")
            raise
        return step


async def _look(connection: AsyncConnection[Any]) -> Found:
    (row,) = await _rows(connection, "server")
    server = Server(*row)
    if server.installed is None:
        return Found(server=server)
    await connection.execute(_SQL["find_functions"])
    return Found(
        server=server,
        hypertables=dict(await _rows(connection, "hypertables")),
        views=frozenset(name for (name,) in await _rows(connection, "views")),
        policies={(of, kind): Policy(*rest) for of, kind, *rest in await _rows(connection, "policies")},
    )


async def _rows(connection: AsyncConnection[Any], query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(_SQL[query])).fetchall()
