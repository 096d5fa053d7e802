"""`ModelProcess`: the model server as a child: restarted after a crash, killed if it hangs, gone with us."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pointsman.streams.model.address import Address
from pointsman.streams.model.connection import connect
from pointsman.streams.model.folder import SocketFolder, sweep
from pointsman.streams.model.protocol import ProtocolError

logger = logging.getLogger(__name__)

SERVER: Final = "pointsman.streams.model.server"
STRIKES: Final = 5
"""Greetings in a row that must fail until a server counts as hung: one alone may be our own pause."""
KNOCK_S: Final = 0.1
"""Between two attempts to greet a server that loads its models, which takes a second or more."""
SETTLED_S: Final = 30.0
"""A server that lived so long did not fail at its start: the next restart is quick again."""
GRACE_S: Final = 5.0
"""Between SIGTERM and SIGKILL; a server has nothing to save and needs a few milliseconds."""


class ModelProcess:
    """One model server on a Unix socket in a private folder (mode 0700).

    ``agents`` are folders of further agents; ``hang_s`` how long a server may be silent before it is killed,
    ``startup_s`` how long it may take to load its models; ``restart_s`` the first and longest pause before
    a restart, doubling from one to the other. ``on_restart`` is called at each restart. For one event loop.
    """

    def __init__(
        self,
        agents: Sequence[str | Path] = (),
        *,
        loader: str = "",
        metrics_host: str = "127.0.0.1",
        metrics_port: int = 0,
        threads: int = 1,
        hang_s: float = 15.0,
        startup_s: float = 60.0,
        restart_s: tuple[float, float] = (0.2, 10.0),
        on_restart: Callable[[], None] = lambda: None,
        environment: Mapping[str, str] | None = None,
        log: str = "text",
        log_level: str = "info",
    ) -> None:
        self._options = [
            *("--loader", loader, "--threads", str(threads)),
            *("--metrics-host", metrics_host, "--metrics-port", str(metrics_port)),
            *("--log", log, "--log-level", log_level, "--parent", str(os.getpid())),
            *(("--agents", *map(str, agents)) if agents else ()),
        ]
        self._round_s = hang_s / STRIKES / 2  # one half waits, the other listens
        self._startup_s = startup_s
        self._restart_s = restart_s
        self._on_restart = on_restart
        self._environment = environment
        self._folder: SocketFolder | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._spawning = asyncio.Lock()
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0
        """How often the server had to be started again."""
        self.up = False
        """Whether the running server has said hello."""

    @property
    def address(self) -> str:
        """Where a `ModelClient` finds it, from `start` on; the same after a restart."""
        if self._folder is None:
            msg = "the model process was not started"
            raise RuntimeError(msg)
        return f"unix:{self._folder.socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while none runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    async def start(self) -> None:
        """Start the server and its supervision. Does not wait for the models: `ModelClient.ready` does.

        Raises OSError where no process can be started at all.
        """
        sweep()
        self._folder = SocketFolder()
        try:
            await self._spawn()
        except OSError:
            self._remove_folder()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="model-process")

    async def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL after a grace. Safe to call again."""
        async with self._spawning:  # a cancelled spawn could leave a child that nobody knows
            if self._supervisor is not None:
                self._supervisor.cancel()
        if self._supervisor is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        await self._end()
        self._remove_folder()

    async def _spawn(self) -> None:
        command = [sys.executable, "-P", "-m", SERVER, "--listen", self.address, *self._options]
        async with self._spawning:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,  # its end tells the server that this process ended
                env=None if self._environment is None else dict(self._environment),
                start_new_session=True,  # out of reach of the terminal's Ctrl-C
            )

    async def _supervise(self) -> None:
        shortest, longest = self._restart_s
        pause_s = shortest
        while True:
            began = time.monotonic()
            code = await self._watch()
            if time.monotonic() - began > SETTLED_S:
                pause_s = shortest
            logger.error("the model process ended with code %s; again in %.1f s", code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, longest)
            self.restarts += 1
            self._on_restart()
            try:
                await self._spawn()
            except OSError as error:
                logger.error("no model process can be started: %s", error)

    async def _watch(self) -> int | None:
        """Wait for the server's end, or end it when it hangs. Its exit code; None without a server."""
        process = self._process
        if process is None or process.returncode is not None:
            return None
        end, hang = asyncio.create_task(process.wait()), asyncio.create_task(self._hangs())
        try:
            await asyncio.wait({end, hang}, return_when=asyncio.FIRST_COMPLETED)
            if not end.done():
                hang.result()
                logger.error("the model process %d hangs: it is killed", process.pid)
                process.kill()
            return await end
        finally:
            self.up = False
            end.cancel()
            hang.cancel()

    async def _hangs(self) -> None:
        """Return when the server does not come up in time, or has come up and is silent for too long."""
        try:
            async with asyncio.timeout(self._startup_s):
                while not await self._greets(self._startup_s):  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(KNOCK_S)
        except TimeoutError:
            return
        self.up = True
        strikes = 0
        while strikes < STRIKES:
            await asyncio.sleep(self._round_s)
            strikes = 0 if await self._greets(self._round_s) else strikes + 1

    async def _greets(self, within_s: float) -> bool:
        """Whether the server accepts a connection and says hello."""
        try:
            connection, _ = await connect(Address.parse(self.address), within_s)
        except (OSError, ProtocolError):
            return False
        connection.close()
        return True

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(GRACE_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
