"""`PartitionLoop`: records in, work, commit; one loop for each partition number that a lane owns.

A loop begins anew after any error: its uncommitted state is dropped, and it goes on from what was committed. Of the
others only those begin anew whose batches were in the same transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Final, Protocol

from aiokafka import TopicPartition

from pointsman.streams.commit import Committer
from pointsman.streams.due import Due
from pointsman.streams.errors import Fenced, PositionConflict
from pointsman.streams.metrics import LaneMetrics
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.slots import Slots

logger = logging.getLogger(__name__)

BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between restarts of a loop; the last repeats."""
FENCED_FAILURES: Final = 3
"""Where the waits begin for an owner that was fenced: a second, as long as its heartbeat takes."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Keys, values and headers of one batch, at most, and one record: what comes of it must be sent within a transaction's
deadline."""
BUFFER_BYTES: Final = 2 * BATCH_BYTES
"""The same of what may wait, at most, and one fetch: 1,000 of the largest requests would be 250 MB a partition."""
LANE_BYTES: Final = 8 * BUFFER_BYTES
"""The same for all partitions of a lane together: with many of them each may hold less."""
HEADER_BYTES: Final = 150
"""What a header takes beside its letters: a megabyte of the shortest would be fifty in memory."""


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

    async def begin(self, positions: dict[TopicPartition, int | None]) -> dict[TopicPartition, int]:
        """Seek, then let records flow; the offsets that come first."""

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
        delays_s: Mapping[str, float] = {},
        owned: Callable[[], int] = lambda: 1,
        slots: Slots | None = None,
    ) -> None:
        """``delays_s``: topics whose records are taken only so long after their time; ``owned``: loops of the lane;
        ``slots``: what the lane's loops share, None: each works as it can.
        """
        self.number = number
        self.partitions = partitions
        self.last_progress = time.monotonic()
        self.ready = asyncio.Event()
        """Set once records flow."""
        self.known = False
        """Whether it is known how far the log goes."""
        self.expected: dict[TopicPartition, int] = {}
        """Offset from which records are to be offered next."""
        self.failure: str | None = None
        """Why the loop is not serving, while it is not."""
        self._source = source
        self._work = work
        self._committer = committer
        self._metrics = metrics
        self._batch_max = batch_records_max
        self._interval_s = interval_s
        self._deadline_s = deadline_s
        self._owned = owned
        self._slots = slots
        self._buffers: dict[TopicPartition, deque[Record]] = {tp: deque() for tp in partitions}
        self._bytes: dict[TopicPartition, int] = dict.fromkeys(partitions, 0)
        self._dues = {tp: Due(delays_s[tp.topic]) for tp in partitions if tp.topic in delays_s}
        self._paused: set[TopicPartition] = set()
        self.under_way = 0
        """Records that were taken and are not committed yet."""
        self._wake = asyncio.Event()
        self._stopping = False
        self._error: Exception | None = None
        self._after: TopicPartition | None = None

    # -- what the lane calls ---------------------------------------------------------------------

    def offer(self, tp: TopicPartition, records: list[Record]) -> None:
        """Records that were fetched. Those that came before the loop was ready are fetched again."""
        if not records or not self.ready.is_set():
            return
        buffer = self._buffers[tp]
        buffer.extend(records)
        if tp in self._dues:
            self._dues[tp].offered(records)
        self.expected[tp] = records[-1].offset + 1
        self._bytes[tp] += sum(map(_size, records))
        full = len(buffer) >= 2 * self._batch_max or self._bytes[tp] >= self._bytes_max()
        if full and tp not in self._paused:
            self._paused.add(tp)
            self._source.pause(tp)
        self._wake.set()

    def fail(self, error: Exception, *, after: TopicPartition | None = None) -> None:
        """Begin anew, for a reason outside of the loop; ``after``: once the records offered of it are done."""
        self._error, self._after = error, after
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

    @property
    def waiting(self) -> int:
        """Of these, the ones that are not due yet."""
        return sum(len(self._buffers[tp]) - due.ready() for tp, due in self._dues.items())

    def holds(self, tp: TopicPartition) -> bool:
        """Whether all that lies behind what was read of a partition cannot be due yet."""
        due = self._dues.get(tp)
        return due is not None and due.holds()

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
                    if isinstance(error, Fenced | PositionConflict):
                        # The other owner may be the rightful one: the group says so before this one fences it back.
                        failures = max(failures, FENCED_FAILURES)
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
            self.expected = await self._source.begin(dict(committed.positions))
            self.failure = self._error = None  # what was wrong before is over: it was read anew
            self.ready.set()
            while not self._stopping:
                await self._wait()
                if self._error is not None and not (self._after and self._takeable(self._after)):
                    error, self._error = self._error, None
                    raise error
                await self._step(committer)
            await self._step(committer)
        finally:
            self.ready.clear()
            for tp in self.partitions:
                self._source.pause(tp)  # else its records would be fetched and dropped, and its lag read 0
            self._drop()
            await committer.close()

    async def _step(self, committer: Committer) -> None:
        """Take what waits, work on it, commit."""
        asked = time.monotonic()
        try:
            async with self._slots.one() if self._slots else contextlib.nullcontext():
                began = time.monotonic()
                count, output = await self._batch(committer)
            if not output:
                return
            async with asyncio.timeout(self._deadline_s):
                await committer.commit(output)
        finally:
            self.under_way = 0
        output.keep()
        self.last_progress = time.monotonic()
        self._metrics.committed(count, self.last_progress - began)
        # What is published without requests, once a second, lets none that come meanwhile wait for it.
        await self._pause(self._interval_s() - (self.last_progress - asked), for_records=not count)

    async def _batch(self, committer: Committer) -> tuple[int, Output]:
        """The number of records that waited, and what comes of them; waiting for the broker is no part of it."""
        # A stop leaves fetched records to the successor: they are not committed, so nothing is lost.
        batch = {} if self._stopping else self._take()
        self.under_way = sum(map(len, batch.values()))
        if batch:  # its output has its positions at least, so what is begun here is ended in the commit
            await committer.begin()
        return self.under_way, await self._work.process(batch, final=self._stopping)

    async def _wait(self) -> None:
        """Until there are records, something is due, or the loop is stopped."""
        if self._stopping or self._error is not None:
            return
        waits = [] if (due := self._work.due()) is None else [due]
        for tp, buffer in self._buffers.items():
            if buffer:
                if tp not in self._dues or not (left := self._dues[tp].left()):
                    return
                waits.append(left)
        self._wake.clear()
        try:
            async with asyncio.timeout(min(waits, default=None)):
                await self._wake.wait()
        except TimeoutError:
            pass  # something is due

    async def _pause(self, seconds: float, *, for_records: bool = False) -> None:
        """Wait; a stop cuts it short, and if asked so do records that can be taken."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            if for_records and any(map(self._takeable, self.partitions)):
                return
            self._wake.clear()
            try:
                async with asyncio.timeout(left):
                    await self._wake.wait()
            except TimeoutError:
                return

    def _take(self) -> dict[TopicPartition, list[Record]]:
        batch = {}
        count, size = self._batch_max, BATCH_BYTES
        # All topics share the bounds of one batch. What has waited comes first: it is older, and there is little of it.
        # Of another topic, of which there may be much, half a batch at most while requests wait.
        first = self.partitions[0]
        for tp in reversed(self.partitions):
            buffer = self._buffers[tp]
            ready = self._takeable(tp)
            if tp != first and tp not in self._dues and self._buffers[first]:
                ready = min(ready, self._batch_max // 2)
            if not ready or count <= 0 or size <= 0:
                continue
            if ready == len(buffer) <= count and self._bytes[tp] <= size:
                batch[tp] = list(buffer)
                buffer.clear()
                taken = self._bytes[tp]
            else:
                batch[tp], taken = _taken(buffer, min(ready, count), size)
            if tp in self._dues:
                self._dues[tp].took(len(batch[tp]))
            self._bytes[tp] -= taken
            count, size = count - len(batch[tp]), size - taken
            if tp in self._paused and len(buffer) < self._batch_max and self._bytes[tp] < self._bytes_max():
                self._paused.discard(tp)
                self._source.resume(tp)
        return batch

    def _bytes_max(self) -> int:
        return min(BUFFER_BYTES, LANE_BYTES // max(1, self._owned()))

    def _takeable(self, tp: TopicPartition) -> int:
        """How many of the records that wait here may be taken now; of a delay topic, those that are due."""
        return self._dues[tp].ready() if tp in self._dues else len(self._buffers[tp])

    def _drop(self) -> None:
        for buffer in self._buffers.values():
            buffer.clear()
        for due in self._dues.values():
            due.clear()
        self._bytes = dict.fromkeys(self.partitions, 0)
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


def _taken(buffer: deque[Record], count: int, size: int) -> tuple[list[Record], int]:
    """The first ``count`` records and their bytes; fewer where those before the last of them are ``size`` or more."""
    some = [buffer.popleft() for _ in range(count)]
    sizes = list(map(_size, some))
    taken = sum(sizes)
    if taken > size:
        fit = bisect_left(list(accumulate(sizes)), size) + 1
        buffer.extendleft(reversed(some[fit:]))
        some, taken = some[:fit], sum(sizes[:fit])
    return some, taken


def _size(record: Record) -> int:
    """Bytes that a record holds. Called twice a record at most: it costs 0.15 µs, and as much again a header."""
    size = len(record.value or b"") + len(record.key or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"") + HEADER_BYTES
    return size
