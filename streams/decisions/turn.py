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

    def begin(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Compute a new batch: when nobody wants to finish one."""
        return self._hold(self._beginning)

    def finish(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Write the outcomes of a batch: next."""
        return self._hold(self._finishing)

    @contextlib.asynccontextmanager
    async def _hold(self, queue: Queue) -> AsyncIterator[None]:
        await self._acquire(queue)
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
