"""`Producers`: the few that a worker's partitions share, each replaced where it fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka.errors import ProducerFenced

from pointsman.streams.errors import Fenced
from pointsman.streams.producer import Producer

logger = logging.getLogger(__name__)

AGAIN_S: Final = 0.1
"""Before a producer that failed is replaced; twice as long each time that this fails."""
AGAIN_MAX_S: Final = 5.0
FENCED_S: Final = 1.0
"""The same for one that was fenced: whoever did it may be the rightful owner, and should not be fenced back at once."""
START_S: Final = 5.0
"""A producer gets so long to start. Its id may be stuck in a transaction that cannot end; another may not be."""


class Producers:
    """Open producers, and the ids that others may have."""

    def __init__(
        self,
        ids: Iterable[str],
        make: Callable[[str], Producer],
        freed: Callable[[], None],
        refused: Callable[[Exception], None],
        deadline_s: float,
    ) -> None:
        """``freed``: called when one is there; ``refused``: when none is left, with what keeps the next from starting."""
        self.free: deque[Producer] = deque()
        """Those that have nothing to do."""
        self.alive = 0
        """Those that can commit, busy or not."""
        self.ever: set[str] = set()
        """Ids that were started here once: what a former owner left open under them has ended."""
        self._ids = deque(ids)
        self._make = make
        self._freed = freed
        self._refused = refused
        self._start_s = min(START_S, deadline_s)
        self._open: dict[Producer, str] = {}

    async def start(self, count: int) -> list[tuple[str, BaseException]]:
        """So many, or fewer where there are fewer ids; the ids of those that do not start, and why."""
        ids = [self._ids.popleft() for _ in range(min(count, len(self._ids)))]
        results = await asyncio.gather(*map(self._add, ids), return_exceptions=True)
        return [(id_, error) for id_, error in zip(ids, results, strict=True) if error is not None]

    async def _add(self, id_: str) -> None:
        producer = self._make(id_)
        self._open[producer] = id_
        try:
            async with asyncio.timeout(self._start_s):
                await producer.start()
        except BaseException:
            await self._close(producer)
            self._ids.append(id_)  # not before: of two with an id the second would end the first
            raise
        self.ever.add(id_)
        self.alive += 1
        self.free.append(producer)
        self._freed()

    async def _close(self, producer: Producer) -> None:
        try:
            await producer.close()
        finally:
            self._open.pop(producer, None)

    async def replace(self, producer: Producer, error: BaseException, wanted: Callable[[], bool]) -> None:
        """Close one that has failed, and start another while it is ``wanted``; first with its id, which ends what it left."""
        self.alive -= 1
        id_ = self._open[producer]
        wait = FENCED_S if isinstance(error, Fenced | ProducerFenced) else AGAIN_S
        del error  # its traceback holds the outputs
        await self._close(producer)
        await self.again(id_, wanted, wait)

    async def again(self, id_: str, wanted: Callable[[], bool], wait: float = AGAIN_S) -> None:
        """Start one until it succeeds, after a while (s) and with this id first."""
        while True:
            await asyncio.sleep(wait)
            if not wanted():
                return
            try:
                if id_ in self._ids:
                    self._ids.remove(id_)
                await self._add(id_)
            except Exception as again:  # noqa: BLE001 - whatever it is, it is tried until nobody wants it any more
                logger.warning("a producer does not start", extra={"id": id_, "error": repr(again)})
                if not self.alive:
                    self._refused(again)
                id_ = self._ids.popleft()
                wait = min(2 * wait, AGAIN_MAX_S)
            else:
                return

    async def end(self) -> None:
        """Close all. Never raises."""
        await asyncio.gather(*map(self._close, list(self._open)))
