"""Child processes that are started, watched, started again with a growing pause, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from pointsman.schemas.errors import PointsmanError
from pointsman.streams.cli.child import Orders, Ready

logger = logging.getLogger(__name__)

PROGRAM: Final = "pointsman.streams.cli.child"
START_S: Final = 60.0
"""A worker needs two seconds; on a machine that is loaded to the brim some more."""
PAUSES_S: Final = (0.5, 15.0)
"""First and longest pause before a restart; it doubles between."""
SETTLED_S: Final = 30.0
"""A child that lived so long did not fail at its start: the next restart is quick again."""
KILL_AFTER_S: Final = 10.0
"""After its own time for draining a child has so long to end before it is killed."""
LAST_WORDS: Final = 2_000
ASK_S: Final = 5.0


class ChildFailed(PointsmanError):
    """A child process ended before it was ready; its last words say why."""


class Child:
    """One worker process under supervision."""

    def __init__(self, orders: Orders, log: Path | None = None) -> None:
        self.orders = orders
        self.ops = ""
        """Address of its operations port while it runs."""
        self.restarts = 0
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """As in its logs."""
        return self.orders.name

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self, on_restart: Callable[[Child], None]) -> None:
        """Start it, wait until it runs, and watch over it from then on. Raises `ChildFailed`."""
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch(on_restart), name=f"watch-{self.name}")

    async def _spawn(self) -> None:
        with contextlib.ExitStack() as stack:
            log: IO[bytes] | None = stack.enter_context(self._log.open("ab")) if self._log else None
            self._process = await asyncio.create_subprocess_exec(
                # -P: a file of the user's named like a module of ours must not get in the way
                *(sys.executable, "-P", "-m", PROGRAM),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # the terminal's Ctrl-C is for us, who stop them in order
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(self.orders) + b"\n")
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_S)
        except TimeoutError:
            await self._end(0)
            msg = f"{self.name} was not ready after {START_S:.0f} s{self._words()}"
            raise ChildFailed(msg) from None
        ready = msgspec.json.decode(line, type=Ready) if line else Ready(error="it ended")
        if ready.error:
            await self._process.wait()
            msg = f"{self.name}: {ready.error}{self._words() if not line else ''}"
            raise ChildFailed(msg)
        self.ops = ready.ops

    def _words(self) -> str:
        if self._log is None or not self._log.exists():
            return ""
        text = self._log.read_text(errors="replace")[-LAST_WORDS:]
        return f"; the end of {self._log}: {text}" if text else ""

    async def _watch(self, on_restart: Callable[[Child], None]) -> None:
        pause = PAUSES_S[0]
        while True:
            assert self._process is not None
            began = time.monotonic()
            code = await self._process.wait()
            if time.monotonic() - began > SETTLED_S:
                pause = PAUSES_S[0]
            logger.error("%s ended with code %s; again in %.1f s", self.name, code, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSES_S[1])
            self.restarts += 1
            try:
                await self._spawn()
            except ChildFailed as error:
                logger.error("%s", error)
            on_restart(self)

    async def stop(self) -> None:
        """Let it drain, and kill it where it does not end in time. Safe to call again."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self._end(self.orders.settings.drain_s + KILL_AFTER_S)

    async def _end(self, grace_s: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace_s)
        except TimeoutError:
            logger.error("%s did not stop in time and is killed", self.name)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Crew:
    """The children of one deployment, stopped in the order in which work flows."""

    def __init__(self, children: Sequence[Child], on_change: Callable[[], None] = lambda: None) -> None:
        self.children = list(children)
        self._on_change = on_change

    def addresses(self) -> dict[str, str]:
        """Child to the address of its operations port."""
        return {child.name: child.ops for child in self.children if child.ops}

    async def start(self) -> None:
        """Start all at once; when one fails the others are stopped. Raises `ChildFailed`."""
        starting = [child.start(lambda _child: self._on_change()) for child in self.children]
        results = await asyncio.gather(*starting, return_exceptions=True)
        failed = [result for result in results if isinstance(result, BaseException)]
        if failed:
            await self.stop()
            raise failed[0]

    async def stop(self) -> None:
        """Stop them one after another: what decides first, then, once it has written all, what writes rows."""
        for child in self.children:
            if "sink" in child.orders.settings.lanes and "decisions" not in child.orders.settings.lanes:
                await self._caught_up(child)
            await child.stop()

    async def _caught_up(self, child: Child) -> None:
        """Wait until a sink has nothing left to read, for as long as a drain may take."""
        deadline = time.monotonic() + child.orders.settings.drain_s
        while child.pid is not None and child.ops and time.monotonic() < deadline:
            health = await ask(f"{child.ops}/health")
            lanes = (health or {}).get("lanes", {})
            # One that is not ready (its database is down) reads nothing, so it has no lag to show.
            if all(lane.get("ready") and not lane.get("lag_records") for lane in lanes.values()):
                return
            await asyncio.sleep(0.2)  # its lag is measured once a second


async def ask(url: str) -> dict[str, Any] | None:
    """A JSON answer of an operations port, whatever its status; None where nobody answers."""
    return await asyncio.to_thread(_ask, url)


def _ask(url: str) -> dict[str, Any] | None:
    # No proxy of the environment stands between us and our own port.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ASK_S) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    except (OSError, ValueError):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
