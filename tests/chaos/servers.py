"""The servers of a run, each to be hit on its own: broker, database on a small disk, model server."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psycopg

from pointsman.streams.embedded.process import EmbeddedServerError
from tests.chaos.models import ORDERS
from tests.support.kafka import KafkaServer, free_ports
from tests.support.pipeline import EXAMPLES
from tests.support.postgres import PostgresServer

logger = logging.getLogger(__name__)

ROOT: Final = Path(__file__).resolve().parents[2]
DISK_MB: Final = 400
"""Room for PostgreSQL's own 40 MB, its log, and some 100,000 decisions; more where a plan sends more."""
START_TRIES: Final = 10
BALLAST_STEP: Final = 1 << 20


class Database:
    """PostgreSQL by address, so that one that comes back is found; on a disk of its own where we may mount one."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._disk = folder / "disk"
        self._disk.mkdir(mode=0o755)
        self.limited = _mount(self._disk, max(DISK_MB, megabytes))
        """Whether its disk can be filled."""
        (port,) = free_ports(1)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "max_wal_size": "64MB",
            "min_wal_size": "32MB",
            "log_line_prefix": "%m [%p] ",
        }
        self._server = PostgresServer(self._disk / "data", settings=settings)
        self.dsn = f"host=127.0.0.1 port={port} user=pointsman dbname=pointsman connect_timeout=5"
        self._up = False

    def start(self) -> None:
        """Start it on whatever data is there. One that was killed may still be ending its children."""
        if self._up:
            return
        for left in reversed(range(START_TRIES)):
            try:
                self._server.start()
            except (EmbeddedServerError, psycopg.Error) as error:
                if not left:
                    raise
                logger.info("the database does not start yet: %s", str(error).splitlines()[0])
                time.sleep(1)
            else:
                self._up = True
                return

    def stop(self) -> None:
        """Fast shutdown."""
        self._server.stop()
        self._up = False

    def kill(self) -> None:
        """SIGKILL."""
        self._server.kill()
        self._up = False

    def fill(self) -> None:
        """Leave not a byte free on its disk."""
        with (self._disk / "ballast").open("wb", buffering=0) as ballast:
            step = BALLAST_STEP
            while step:
                try:
                    ballast.write(b"\0" * step)
                except OSError:
                    step //= 2

    def free(self) -> None:
        """Give the room back, and see that the server runs: a full log may have ended it."""
        (self._disk / "ballast").unlink(missing_ok=True)
        try:
            with psycopg.connect(self.dsn):
                return
        except psycopg.OperationalError:
            self.stop()
            self.start()

    def sessions(self) -> list[str]:
        """Connections of the product."""
        with psycopg.connect(self.dsn) as connection:
            query = "SELECT state || ': ' || query FROM pg_stat_activity WHERE application_name = 'pointsman'"
            return [str(row[0]) for row in connection.execute(query).fetchall()]

    def close(self) -> None:
        """Stop it and take its disk away."""
        with contextlib.suppress(EmbeddedServerError, psycopg.Error):
            self._server.stop()
        if self.limited:
            subprocess.run(["umount", "-l", self._disk], check=True)


def may_mount() -> bool:
    """Whether a disk of its own can be made for the database."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def _mount(folder: Path, megabytes: int) -> bool:
    """A small disk in memory at the folder; False where we may not."""
    if not may_mount():
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Broker:
    """The broker; starting and ending are its own, pausing is ours."""

    def __init__(self) -> None:
        self._server = KafkaServer()
        self.bootstrap = self._server.bootstrap
        self.up = False

    def start(self) -> None:
        """Start it on its data."""
        if not self.up:
            self._server.start()
            self.up = True

    def stop(self) -> None:
        """SIGTERM."""
        self.up = False
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.up = False
        self._server.kill()

    def signal(self, number: signal.Signals) -> None:
        """To the broker itself."""
        os.kill(self._server.pid, number)

    def close(self) -> None:
        """Stop it and remove its data."""
        self._server.close()


class ModelServer:
    """A model server that does as ordered, and is started again whenever it ended."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"
        self._log = folder / "model-server.log"
        self.url = f"unix:{folder}/server.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def order(self, word: str) -> None:
        """One of `models.ORDERS`' words; empty: behave."""
        self._orders.write_text(word)
        if not word and self._process is not None and self._process.poll() is None:
            self._process.kill()  # what hangs does not read its orders
            self._process.wait()
        self.tend()

    def tend(self) -> None:
        """Start it unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self.starts += 1
        command = [sys.executable, "-m", "pointsman.streams.model.server", "--listen", self.url]
        command += [
            "--loader",
            "tests.chaos.models:load",
            "--agents",
            str(EXAMPLES),
            "--parent",
            str(os.getpid()),
        ]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, ORDERS: str(self._orders), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
            )

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
