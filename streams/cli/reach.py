"""What a command works on: servers by the settings, else by what runs here, else what was kept of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pointsman.streams import local, loop
from pointsman.streams.cli.failure import INTERRUPTED, NOTHING_RUNS
from pointsman.streams.errors import WorkerNotRunning
from pointsman.streams.settings import Settings

if TYPE_CHECKING:
    from pointsman.streams.store.pool import Connection

T = TypeVar("T")

DATABASE_FOLDER: Final = "postgres"
DEMO_FOLDER: Final = "demo"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGTERM ends it as Ctrl-C does. Exits with 130 where it was interrupted."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return loop.run(guarded())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(INTERRUPTED) from None


def kafka(settings: Settings) -> str:
    """Bootstrap servers. Raises `WorkerNotRunning` where nobody says which."""
    found = local.servers(settings)["kafka"]
    if not found:
        raise WorkerNotRunning(NOTHING_RUNS)
    return found


def is_embedded(settings: Settings) -> bool:
    """Whether the broker that `kafka` names is the embedded one, which knows no transactions."""
    running = None if settings.kafka else local.read(settings)
    return bool(running and running.embedded)


def dsn(settings: Settings) -> str:
    """Connection string of the database, empty where nobody says which."""
    return local.servers(settings)["dsn"]


def the_dsn(settings: Settings) -> str:
    """Connection string of the database. Raises `WorkerNotRunning` where nobody says which."""
    found = dsn(settings)
    if not found:
        raise WorkerNotRunning(NOTHING_RUNS)
    return found


def kept_databases(settings: Settings) -> list[Path]:
    """Databases that the embedded server left on disk, the demo's first."""
    home = Path(settings.data_dir)
    folders = (home / DEMO_FOLDER / DATABASE_FOLDER, home / DATABASE_FOLDER)
    return [folder for folder in folders if folder.exists()]


@asynccontextmanager
async def connection(address: str) -> AsyncIterator[Connection]:
    """A connection in UTC. Raises `StoreUnavailable`."""
    import psycopg  # noqa: PLC0415

    from pointsman.streams.store.errors import translated  # noqa: PLC0415

    async with translated():
        connected = await psycopg.AsyncConnection.connect(
            address, autocommit=True, connect_timeout=10, application_name="pointsman"
        )
        async with connected:
            await connected.execute("SET TimeZone = 'UTC'")
            yield connected


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Connection]:
    """The same, to the database of this deployment. Raises `WorkerNotRunning` where nobody says which it is."""
    async with connection(the_dsn(settings)) as connected:
        yield connected
