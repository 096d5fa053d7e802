"""TimescaleDB's Apache edition for tests: PostgreSQL 17 of Debian 13, run by chroot in the folder that real_parts makes."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from pointsman.infra.dev import real_parts
from pointsman.streams.embedded.postgres import ABANDON, GRACE_S, NOT_DURABLE, SETTINGS, START_TIMEOUT_S, STOP
from pointsman.streams.embedded.process import Ending, SupervisedProcess
from tests.support.kafka import free_ports

USER = "pointsman"
DATA = Path("var", "lib", "pointsman-test")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""Its programs, and `chroot` here."""
OWN_SETTINGS = {
    "shared_preload_libraries": "timescaledb",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    # files in the data folder, for a chroot has no /dev/shm of its own
    "dynamic_shared_memory_type": "mmap",
    # The Apache edition has no policies to run. A scheduler in each data base would only keep it from being copied.
    "timescaledb.max_background_workers": "0",
    "timescaledb.telemetry_level": "off",
}


class TimescaleServer:
    """One server of our own on a port of loopback, with temporary data. Raises MissingPartError."""

    def __init__(self) -> None:
        self._root = real_parts.timescale_root()
        (self._port,) = free_ports(1)
        self._folder: Path | None = None
        self._process: SupervisedProcess | None = None

    @property
    def dsn(self) -> str:
        """The connection string of data base `postgres`."""
        return make_conninfo(host="127.0.0.1", port=self._port, user=USER, dbname="postgres")

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where its data lies."""
        assert self._folder is not None
        return self._folder

    def start(self) -> Self:
        """Make the data, start the server and return when it answers."""
        (self._root / DATA).mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=self._root / DATA))
        try:
            self._own(self._folder)
            data = Path("/", DATA, self._folder.name, "data")
            self._initialise(data)
            self._run(data, self._folder)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Shut down in order and remove the data; safe to call again."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        if process is not None:
            process.stop()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _own(self, folder: Path) -> None:
        """Give it to the folder's own user postgres, which has another number than one of this system."""
        users = (line.split(":") for line in (self._root / "etc" / "passwd").read_text().splitlines())
        uid, gid = next((int(user[2]), int(user[3])) for user in users if user[0] == "postgres")
        os.chown(folder, uid, gid)

    def _inside(self, program: str, *words: str | Path) -> list[str | Path]:
        # The supervisor's wish to end with it is forgotten when the user changes, so setpriv wishes again.
        become = [
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--pdeathsig",
            ABANDON.name.removeprefix("SIG"),
        ]
        return ["chroot", self._root, "setpriv", *become, real_parts.TIMESCALE_BIN / program, *words]

    def _initialise(self, data: Path) -> None:
        words = [
            "-U",
            USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
            "--no-sync",
        ]
        command = self._inside("initdb", "-D", data, *words)
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)

    def _run(self, data: Path, folder: Path) -> None:
        settings = SETTINGS | NOT_DURABLE | OWN_SETTINGS | {"port": str(self._port)}
        options = [f"-c{key}={value}" for key, value in settings.items()]
        self._process = SupervisedProcess(
            self._inside("postgres", "-D", data, *options),
            log=folder / "postgres.log",
            ending=Ending(stop=STOP, orphaned=ABANDON, grace_s=GRACE_S, remove=(folder,)),
            env=ENVIRONMENT,
        )
        self._process.wait_until(self._answers, timeout_s=START_TIMEOUT_S, what="TimescaleDB")

    def _answers(self) -> bool:
        return PGconn.ping(self.dsn.encode()) == Ping.OK
