"""`Turn`: one partition computes at a time, and who finishes a batch goes before who begins one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

Queue = deque[asyncio.Future[None]]


class Turn:
    """A lock with two doors. In one queue, sixty partitions would all begin before the first could finish.

    Their batches would lie in memory at once, out of every cache, each waiting behind all others with its answers ready.
    """

    def __init__(self) -> None:
        self._held = False
        self._finishing: Queue = deque()
        self._beginning: Queue = deque()

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        """Compute a new batch: when nobody wants to finish one."""
        await self._acquire(self._beginning)
        try:
            yield
        finally:
            self._release()

    @contextlib.asynccontextmanager
    async def finish(self) -> AsyncIterator[None]:
        """Write the outcomes of a batch: next."""
        await self._acquire(self._finishing)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, queue: Queue) -> None:
        if not self._held:
            self._held = True
            return
        given = asyncio.get_running_loop().create_future()
        queue.append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self._release()  # it was handed over in the same moment
            raise

    def _release(self) -> None:
        for queue in (self._finishing, self._beginning):
            while queue:
                given = queue.popleft()
                if not given.done():  # whoever was cancelled waits no longer
                    given.set_result(None)
                    return
        self._held = False
