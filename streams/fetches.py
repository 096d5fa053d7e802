"""How often a lane's consumer fetches: no oftener than its batches need.

aiokafka asks for more as soon as what came was taken, for every partition anew. Under load that is a request every
few milliseconds, answered with the handful of records that came since: most of what broker and client then do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer


class Fetches:
    """Stands before a consumer's fetches: each is sent a while after the one before, at once on an idle system."""

    def __init__(self, apart_s: Callable[[], float]) -> None:
        """``apart_s``: between two fetches from one broker."""
        self._apart_s = apart_s
        self._sent: dict[int, float] = {}
        self._send: Any = None

    def install(self, consumer: AIOKafkaConsumer) -> None:
        """Into a consumer that is started and reads nothing yet."""
        fetcher = consumer._fetcher  # noqa: SLF001 - the client has no public way
        self._send = fetcher._proc_fetch_request  # noqa: SLF001
        fetcher._proc_fetch_request = self._fetch  # noqa: SLF001

    def at_once(self) -> None:
        """Send the next one without waiting: what was fetched is asked for anew, and somebody looks for it now."""
        self._sent.clear()

    async def _fetch(self, assignment: Any, node: int, request: Any) -> Any:
        now = time.monotonic()
        at = max(now, self._sent.get(node, 0.0) + self._apart_s())
        self._sent[node] = at
        if at > now:
            try:
                await asyncio.sleep(at - now)
            except asyncio.CancelledError:
                return False  # as the client's own says it; who closes a consumer waits for it, and takes no error
        return await self._send(assignment, node, request)
