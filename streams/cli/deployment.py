"""`Deployment`: servers (embedded where the settings name none), topics, tables, and the worker processes on them."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from pointsman.schemas import topics as contracts
from pointsman.streams import local, topics
from pointsman.streams.cli.child import Orders
from pointsman.streams.cli.crew import Child, Crew, ask
from pointsman.streams.cli.failure import Usage
from pointsman.streams.errors import KafkaUnavailable
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names

READY_S: Final = 60.0
"""How long the lanes may take to own their partitions: a second as a rule, a session time-out after a crash."""

EMBEDDED_FETCH_MS: Final = 20
"""The embedded broker sleeps a fetch's whole wait through, though records come meanwhile; others wake up."""


@dataclass(slots=True)
class Deployment:
    """What runs, and where."""

    settings: Settings
    kafka: str
    dsn: str
    cluster: str = ""
    """Kafka's id, under which positions are kept; the embedded broker, which forgets all, gets a new one."""
    embedded: bool = False
    """The broker is the embedded one."""
    own_database: bool = False
    """The database is the embedded one."""
    crew: Crew = field(default_factory=lambda: Crew([]))

    @property
    def names(self) -> Names:
        """The topics' names."""
        return Names.of(self.settings)

    def publish(self) -> None:
        """Write the addresses where other commands look for them."""
        local.write(
            self.settings,
            local.Running(
                pid=os.getpid(),
                kafka=self.kafka,
                dsn=self.dsn,
                cluster=self.cluster,
                embedded=self.embedded,
                ops=self.crew.addresses(),
            ),
        )

    async def until_ready(self) -> None:
        """Wait until every lane owns its partitions. Raises `KafkaUnavailable` after `READY_S`."""
        try:
            async with asyncio.timeout(READY_S):
                for child in self.crew.children:
                    while not ((await ask(f"{child.ops}/ready")) or {}).get("ready"):  # noqa: ASYNC110 - another process
                        await asyncio.sleep(0.1)
        except TimeoutError:
            msg = f"the workers own no partitions of {self.kafka} after {READY_S:.0f} s"
            raise KafkaUnavailable(msg) from None


@asynccontextmanager
async def deployed(
    settings: Settings,
    *,
    postgres: Path | None,
    postgres_settings: Mapping[str, str] | None = None,
    logs: Path | None = None,
) -> AsyncIterator[Deployment]:
    """Everything up to running workers; on leaving, workers drain in order, then the servers stop.

    ``postgres`` is the embedded database's folder (None: gone afterwards), ``logs`` the folder for the workers'
    logs (None: our own standard error). Raises `Usage` where something of this group runs already, or the data folder cannot be made.
    """
    try:
        Path(settings.data_dir).mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing runs yet
    except OSError as error:
        msg = f"{settings.data_dir} cannot be made ({error.strerror}): choose another with --data-dir or POINTSMAN_DATA_DIR"
        raise Usage(msg) from error
    running = local.read(settings)
    if running is not None:
        msg = (
            f"pointsman runs already in group {settings.group} (process {running.pid}): "
            "stop it, or choose another --group"
        )
        raise Usage(msg)
    async with AsyncExitStack() as stack:
        deployment = await _servers(stack, settings, postgres, postgres_settings)
        await _prepare(deployment)
        deployment.crew = Crew(_children(deployment, logs), deployment.publish)
        stack.push_async_callback(deployment.crew.stop)
        await deployment.crew.start()
        deployment.publish()
        stack.callback(local.remove, settings)
        yield deployment


async def _servers(
    stack: AsyncExitStack,
    settings: Settings,
    postgres: Path | None,
    postgres_settings: Mapping[str, str] | None,
) -> Deployment:
    from pointsman.streams.embedded import EmbeddedKafka, EmbeddedPostgres  # noqa: PLC0415 - slow to import

    kafka = None if settings.kafka else EmbeddedKafka(topics=partitions(settings))
    database = None if settings.dsn else EmbeddedPostgres(postgres, settings=postgres_settings)
    started = [stack.enter_async_context(server) for server in (database, kafka) if server is not None]
    for result in await asyncio.gather(*started, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
    return Deployment(
        settings=settings,
        kafka=kafka.bootstrap if kafka else settings.kafka,
        dsn=database.dsn if database else settings.dsn,
        # A new name each time: offsets of an earlier start mean nothing.
        cluster=f"embedded-{secrets.token_hex(6)}" if kafka else "",
        embedded=kafka is not None,
        own_database=database is not None,
    )


def partitions(settings: Settings) -> dict[str, int]:
    """Topic to number of partitions, as the embedded broker is to make them."""
    return {
        settings.topic_prefix + topic.name: topic.partitions or settings.partitions
        for topic in contracts.deployed(settings.retry_delays_ms)
    }


async def _prepare(deployment: Deployment) -> None:
    from pointsman.streams.store import edition  # noqa: PLC0415 - imports the driver
    from pointsman.streams.store.migrate import migrate  # noqa: PLC0415

    await migrate(deployment.dsn)
    await edition.apply(deployment.dsn, edition.Wanted.of(deployment.settings))
    if deployment.embedded:
        return
    admin = await topics.connect(deployment.kafka)
    try:
        deployment.cluster = str((await admin.describe_cluster())["cluster_id"])
        await topics.create(admin, deployment.settings)
        await topics.appear(admin, deployment.settings)
        await topics.check(admin, deployment.settings)
    finally:
        await admin.close()


def _children(deployment: Deployment, logs: Path | None) -> list[Child]:
    """The decisions in one process, the rows in another: so they do not share an interpreter's lock."""
    settings = deployment.settings
    if deployment.embedded:
        settings = msgspec.structs.replace(
            settings, fetch_wait_ms=min(settings.fetch_wait_ms, EMBEDDED_FETCH_MS)
        )
    sink_port = (
        settings.metrics_port + 2 if settings.metrics_port else 0
    )  # the model process has the one between
    plans = {
        "worker": msgspec.structs.replace(settings, lanes=("decisions", "live")),
        "sink": msgspec.structs.replace(settings, lanes=("sink",), metrics_port=sink_port),
    }
    return [
        Child(
            Orders(
                name=name,
                settings=plan,
                kafka=deployment.kafka,
                dsn=deployment.dsn,
                cluster=deployment.cluster,
                embedded=deployment.embedded,
            ),
            logs / f"{name}.log" if logs else None,
        )
        for name, plan in plans.items()
    ]
