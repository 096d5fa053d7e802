"""`PartitionLoop`: records in, work, commit; one loop for each partition number that a lane owns.

A loop is its own island: an error ends its producer and its uncommitted state, and it begins anew from
what was committed, while the other partitions go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from aiokafka import TopicPartition

from pointsman.streams.commit import Committer
from pointsman.streams.metrics import LaneMetrics
from pointsman.streams.output import Committed, Output, Record

logger = logging.getLogger(__name__)

BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between restarts of a loop; the last repeats."""


class Work(Protocol):
    """What a lane does with one partition's records. Uncommitted changes live in the output, not here."""

    async def restore(self, committed: Committed) -> None:
        """Make the state fit what was committed."""

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:
        """The output of one batch, which may be empty; ``final`` asks for all that is still unpublished."""

    def due(self) -> float | None:
        """Seconds until there is something to publish without new records, or None."""

    async def close(self) -> None:
        """Give back what it holds."""


class Source(Protocol):
    """What a loop needs of the lane's consumer."""

    async def begin(self, positions: dict[TopicPartition, int | None]) -> None:
        """Seek, then let records flow."""

    def pause(self, tp: TopicPartition) -> None:
        """Let no more records flow."""

    def resume(self, tp: TopicPartition) -> None:
        """Let them flow again."""


class PartitionLoop:
    """Runs one partition number of a lane until it is stopped."""

    def __init__(
        self,
        *,
        number: int,
        partitions: tuple[TopicPartition, ...],
        source: Source,
        work: Work,
        committer: Callable[[], Committer],
        metrics: LaneMetrics,
        batch_records_max: int,
        interval_s: Callable[[], float],
        deadline_s: float,
    ) -> None:
        self.number = number
        self.partitions = partitions
        self.last_progress = time.monotonic()
        self.ready = asyncio.Event()
        """Set once records flow."""
        self.failure: str | None = None
        """Why the loop is not serving, while it is not."""
        self._source = source
        self._work = work
        self._committer = committer
        self._metrics = metrics
        self._batch_max = batch_records_max
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._buffers: dict[TopicPartition, deque[Record]] = {tp: deque() for tp in partitions}
        self._paused: set[TopicPartition] = set()
        self._wake = asyncio.Event()
        self._stopping = False

    # -- what the lane calls ---------------------------------------------------------------------

    def offer(self, tp: TopicPartition, records: list[Record]) -> None:
        """Records that were fetched. Those that came before the loop was ready are fetched again."""
        if not self.ready.is_set():
            return
        buffer = self._buffers[tp]
        buffer.extend(records)
        if len(buffer) >= 2 * self._batch_max and tp not in self._paused:
            self._paused.add(tp)
            self._source.pause(tp)
        self._wake.set()

    def wake(self) -> None:
        """There is something to publish."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the batch under way, publish what is due, and end."""
        self._stopping = True
        self._wake.set()

    def idle(self) -> None:
        """There is nothing to do, which is as good as progress. To begin anew is not."""
        self.last_progress = time.monotonic()

    @property
    def buffered(self) -> int:
        """Records that wait here."""
        return sum(map(len, self._buffers.values()))

    async def run(self) -> None:
        """Serve until stopped; begin anew after any error."""
        failures = 0
        try:
            while not self._stopping:
                began = self.last_progress
                try:
                    await self._serve()
                except Exception as error:  # noqa: BLE001 - whatever it is, the partition begins anew
                    failures = 0 if self.last_progress > began else failures
                    self._failed(error, failures)
                    await self._pause(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                    failures += 1
        finally:
            await self._work.close()

    # -- the loop --------------------------------------------------------------------------------

    async def _serve(self) -> None:
        committer = self._committer()
        try:
            async with asyncio.timeout(self._deadline_s):
                committed = await committer.open()
            await self._work.restore(committed)
            self._drop()
            await self._source.begin(dict(committed.positions))
            self.failure = None
            self.ready.set()
            while not self._stopping:
                await self._wait()
                await self._step(committer)
            await self._step(committer)
        finally:
            self.ready.clear()
            self._drop()
            await committer.close()

    async def _step(self, committer: Committer) -> None:
        began = time.monotonic()
        # A stop leaves fetched records to the successor: they are not committed, so nothing is lost.
        batch = {} if self._stopping else self._take()
        count = sum(map(len, batch.values()))
        output = await self._work.process(batch, final=self._stopping)
        if not output:
            return
        async with asyncio.timeout(self._deadline_s):
            await committer.commit(output)
        output.keep()
        self.last_progress = time.monotonic()
        self._metrics.committed(count, self.last_progress - began)
        await self._pause(self._interval_s() - (self.last_progress - began))

    async def _wait(self) -> None:
        """Until there are records, something is due, or the loop is stopped."""
        if self._stopping or any(self._buffers.values()):
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(self._work.due()):
                await self._wake.wait()
        except TimeoutError:
            pass  # something is due

    async def _pause(self, seconds: float) -> None:
        """Wait; a stop cuts it short."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _take(self) -> dict[TopicPartition, list[Record]]:
        batch = {}
        for tp, buffer in self._buffers.items():
            if not buffer:
                continue
            if len(buffer) <= self._batch_max:
                batch[tp] = list(buffer)
                buffer.clear()
            else:
                batch[tp] = [buffer.popleft() for _ in range(self._batch_max)]
            if tp in self._paused and len(buffer) < self._batch_max:
                self._paused.discard(tp)
                self._source.resume(tp)
        return batch

    def _drop(self) -> None:
        for buffer in self._buffers.values():
            buffer.clear()
        self._paused.clear()

    def _failed(self, error: Exception, failures: int) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        self._metrics.restarted(type(error).__name__)
        level = logging.WARNING if failures < 3 else logging.ERROR
        retriable = getattr(error, "retriable", False) or isinstance(error, (OSError, TimeoutError))
        logger.log(
            level,
            "partition begins anew",
            exc_info=None if retriable else error,
            extra={"lane": self._metrics.lane, "partition": self.number, "error": self.failure},
        )
