"""`Slots`: so many short batches are under way in a lane at a time; who waits for a slot collects more records meanwhile.

With sixteen partitions a batch of each would be under way at once. They share one event loop and one broker, so each
takes sixteen times as long, and requests that come meanwhile wait for it: twice the latency at the same pace.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

LEASE_S: Final = 0.025
"""A batch that takes longer is not counted any more. It waits for something, be it a broker that is far away, so the
other partitions lose nothing by going on; or it is a large one of a backlog, where latency is made up of the backlog."""


class Slots:
    """A semaphore, in order of asking, that takes back what is held for too long."""

    def __init__(self, count: int, lease_s: float = LEASE_S) -> None:
        self._free = asyncio.Semaphore(count)
        self._lease_s = lease_s

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for a slot; it is given back at the end, or when its time is over."""
        await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._lease_s, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
