"""`ControlPlane`: the Faust app, and another one in its place when it has crashed. Lanes know nothing of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn

from mode import Service

from pointsman.streams import metrics
from pointsman.streams.live import Live

logger = logging.getLogger(__name__)

WATCH_S: Final = 0.5
"""How often the app is looked at."""
AGAIN_MIN_S: Final = 1.0
AGAIN_MAX_S: Final = 60.0
"""Between two apps: at first as long as a broker takes to come back, then longer and longer."""
STOP_S: Final = 10.0
"""The live figures are rebuilt from their topics: nothing is lost when an app hangs at its end."""


class ControlPlane:
    """Runs the app of live figures from `start` to `stop`. A crash of it, as when the broker goes, ends nothing else."""

    def __init__(self, make: Callable[[], Live], declare: Callable[[Live], Awaitable[None]] | None) -> None:
        """``make``: a new app and its tables; ``declare``: makes their topics, or raises; None: the broker does."""
        self._make = make
        self._declare = declare
        self._live: Live | None = None
        self._task: asyncio.Task[None] | None = None
        self.up = True
        """False from a crash until another app runs. One that starts for the first time is no illness."""

    def start(self) -> None:
        """Begin, in the background: the app's group may first have to expel a member that was killed."""
        self._set(up=True)
        self._task = asyncio.create_task(self._run(), name="control-plane")

    async def stop(self) -> None:
        """End the app, or leave it behind where it takes too long."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def figures(self) -> dict[str, Any]:
        """`Live.figures` of the app that runs, or ran last; none before the first."""
        return {} if self._live is None else self._live.figures()

    async def _run(self) -> None:
        again_s = AGAIN_MIN_S
        while True:
            began = time.monotonic()
            try:
                await self._serve()
            except Exception as error:  # noqa: BLE001 - whatever ended it, another one takes its place
                self._set(up=False)
                if time.monotonic() - began > AGAIN_MAX_S:
                    again_s = AGAIN_MIN_S
                extra = {"error": repr(error), "again_s": again_s}
                logger.error("the control plane is down: live figures stand still, lanes go on", extra=extra)
            await asyncio.sleep(again_s)
            again_s = min(again_s * 2, AGAIN_MAX_S)

    async def _serve(self) -> NoReturn:
        """One app, until it crashes. Raises what crashed it."""
        live = self._make()
        try:
            if self._declare is not None:
                await self._declare(live)
            await live.app.start()
            self._live = live
            self._set(up=True)
            while not live.app.crashed:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(WATCH_S)
            # Whatever it was, a cancellation or an exit among them: here it is an error, and ends nothing else.
            msg = f"the app crashed: {live.app.crash_reason!r}"
            raise RuntimeError(msg)
        finally:
            await _end(live.app)

    def _set(self, *, up: bool) -> None:
        self.up = up
        metrics.CONTROL_UP.set(up)


async def _end(app: Service) -> None:
    try:
        await asyncio.wait_for(app.stop(), STOP_S)
    except TimeoutError:
        logger.warning("the control plane did not stop in time")
    except Exception:
        logger.exception("the control plane did not stop in order")
