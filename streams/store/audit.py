"""`AuditStore`: takes batches of the sink lane into the audit and the aggregates, exactly once.

The position of the sink stands in the database and moves in the transaction that writes the rows, and only
from the batch's start: a batch that was written before, or is being written by another, is refused whole.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import psycopg

from pointsman.models.satisfaction import Signal, Weight
from pointsman.streams.store import drift, feedback, rollup, truths, writes
from pointsman.streams.store import measures as told
from pointsman.streams.store.batch import SinkBatch, WriteResult
from pointsman.streams.store.errors import OffsetConflict, StoreUnavailable, translated
from pointsman.streams.store.fits import fitting
from pointsman.streams.store.pool import Connection, make_pool
from pointsman.streams.store.queries import load
from pointsman.streams.store.rows import Packer

if TYPE_CHECKING:
    from pointsman.models.drift import Limits
    from pointsman.models.measure import Measure

_SQL: Final = load("audit.sql")
_REFUSALS: Final = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    OverflowError,
    ValueError,
    struct.error,
)
"""What a value that no column can hold leads to: in the database, in the driver, and where rows are packed."""


class AuditStore:
    """The sink's side of the database. One per process; safe to use from many tasks of one event loop.

    After any error of `write`, read the position again before going on: a commit may have arrived although
    its answer did not.
    """

    def __init__(
        self,
        dsn: str,
        *,
        connections_max: int = 4,
        wait_s: float = 5.0,
        deadline_s: float = 30.0,
        watch: drift.Watch | None = None,
    ) -> None:
        """``deadline_s`` bounds a whole call, lock waits included; ``wait_s`` the wait for a connection.

        ``watch``: whose drift is watched; none by default.
        """
        self._pool = make_pool(dsn, connections_max, wait_s)
        self._deadline_s = deadline_s
        self._packer = Packer()
        self._watch = watch or drift.Watch([], 0.0)
        self._topics: dict[tuple[str, str], int] = {}

    async def open(self) -> None:
        """Starts connecting and returns at once: a database that is down is no error before the first call."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Closes all connections."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for reading. Raises `StoreUnavailable` also for what happens inside the block."""
        async with self._deadline(), translated(), self._pool.connection() as connection:
            yield connection

    async def position(
        self, lane: str, cluster: str, topic: str, partition: int, topic_generation: str = ""
    ) -> int | None:
        """The next offset that the lane has to read, or None if it never wrote from there."""
        async with self.connection() as connection:
            cursor = await connection.execute(
                _SQL["position"], (lane, cluster, topic, topic_generation, partition)
            )
            row = await cursor.fetchone()
        return None if row is None else int(row[0])

    async def take_over(
        self, lane: str, cluster: str, topic: str, partition: int, topic_generation: str = ""
    ) -> int | None:
        """`position`, for a new owner of the partition: ends what a stalled or vanished owner left open.

        Without it a paused owner's open transaction would hold the new one up until it is resumed.
        """
        async with self.connection() as connection, connection.transaction():
            await connection.execute(_SQL["as_oneself"])
            await connection.execute(_SQL["end_others"], (lock_name(lane, cluster, topic), partition))
        return await self.position(lane, cluster, topic, partition, topic_generation)

    async def write(self, batch: SinkBatch) -> WriteResult:
        """Writes all of a batch, or nothing. Returns what was new and what had been written before.

        What the tables cannot hold, which is none of ours, is left out and reported. Raises `OffsetConflict` if
        the lane does not stand at the batch's start, and `StoreUnavailable`.
        """
        async with self._deadline(), translated():
            try:
                return await self._written(batch)
            except _REFUSALS:
                kept, unfit = fitting(batch)
                if not unfit:
                    raise
            result = await self._written(kept)
            result.unfit += unfit
            return result

    async def _written(self, batch: SinkBatch) -> WriteResult:
        topic_ids = await self._topic_ids(batch)
        try:
            return await self._write(batch, topic_ids, careful=False)
        except psycopg.errors.UniqueViolation:
            # Something of it was written before, from another place of the topic: look at each key.
            return await self._write(batch, topic_ids, careful=True)

    async def _write(self, batch: SinkBatch, topic_ids: dict[str, int], *, careful: bool) -> WriteResult:
        result = WriteResult()
        async with self._pool.connection() as connection, connection.transaction():
            await _advance(connection, batch)
            if batch.outcomes:
                written = await writes.outcomes(
                    connection, self._packer, batch, topic_ids, result, careful=careful
                )
                await drift.add(connection, self._watch.outcomes(written))
            if batch.shadows:
                answers = await writes.shadows(connection, batch.shadows, topic_ids, result, careful=careful)
                await drift.add(connection, self._watch.shadows(answers))
            if batch.feedback:
                authorised = batch.authorised or [False] * len(batch.feedback)
                await feedback.write(connection, batch.feedback, authorised, batch.partition, result)
            if batch.summaries:
                await writes.ledgers(connection, batch.summaries, topic_ids, result)
            if batch.dead_letters:
                await writes.dead_letters(connection, batch.dead_letters, topic_ids, result)
        return result

    async def sweep(self) -> None:
        """Look again for the decisions that feedback spoke of and that were not known. Raises `StoreUnavailable`."""
        more = True
        while more:  # after a migration, all that was learned before is due
            async with self.connection() as connection:
                more = await truths.sweep(connection)

    async def waiting(self) -> truths.Waiting:
        """How many of them are not known yet. Raises `StoreUnavailable`."""
        async with self.connection() as connection:
            return await truths.waiting(connection)

    async def roll_up(self, after_s: float = rollup.AFTER_S) -> int:
        """Merge the shards of minutes that are over (see `rollup`). Returns how many. Raises `StoreUnavailable`."""
        merged = 0
        for table in rollup.TABLES:
            more = True
            while more:  # after a migration, all that there is
                async with self.connection() as connection:
                    found = await rollup.roll_up(connection, table, after_s=after_s, most=rollup.ROWS_MAX)
                more = found >= rollup.ROWS_MAX
                merged += found
        return merged

    async def forget_hours(self, days: int) -> None:
        """Delete kept hours older than so many days whose minutes are gone. Raises `StoreUnavailable`."""
        async with self.connection() as connection:
            await rollup.forget(connection, days)

    async def tell(self, measures: Iterable[Measure], weights: Mapping[Signal, Weight]) -> None:
        """What success and satisfaction are made of, for the views. Raises `StoreUnavailable`."""
        async with self.connection() as connection:
            await told.tell(connection, measures, weights)

    async def standings(self) -> list[told.Standing]:
        """Success and satisfaction of the last hour and day. Raises `StoreUnavailable`."""
        async with self.connection() as connection:
            return await told.standings(connection)

    async def drifts(self, limits: Limits, hours: int) -> list[drift.Drifted]:
        """How the decisions of the last hours stand to what models were trained on. Raises `StoreUnavailable`."""
        async with self.connection() as connection:
            return await drift.look(connection, self._watch, limits, hours)

    async def forget_drift(self, hours: int, days: int) -> None:
        """Delete counts older than the window, and what came of them after so many days. Raises `StoreUnavailable`."""
        async with self.connection() as connection:
            await drift.forget(connection, hours, days)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError as error:
            msg = f"the database did not answer within {self._deadline_s:g} s"
            raise StoreUnavailable(msg) from error

    async def _topic_ids(self, batch: SinkBatch) -> dict[str, int]:
        return {topic: await self._topic_id(batch.cluster, topic) for topic in writes.topics(batch)}

    async def _topic_id(self, cluster: str, topic: str) -> int:
        key = (cluster, topic)
        if key not in self._topics:
            async with self._pool.connection() as connection:
                self._topics[key] = await _find_topic(connection, *key)
        return self._topics[key]


async def _find_topic(connection: Connection, cluster: str, topic: str) -> int:
    # Looked for first: an INSERT that hits a conflict uses up a number, each time.
    for query in ("find_topic", "add_topic", "find_topic"):
        cursor = await connection.execute(_SQL[query], (cluster, topic))
        if cursor.description and (row := await cursor.fetchone()):
            return int(row[0])
    msg = f"topic {topic} of cluster {cluster} was added and is not there"
    raise AssertionError(msg)


async def _advance(connection: Connection, batch: SinkBatch) -> None:
    cursor = await connection.execute(
        _SQL["advance"],
        {
            "lane": batch.lane,
            "cluster": batch.cluster,
            "topic": batch.topic,
            "generation": batch.topic_generation,
            "partition": batch.partition,
            "start": batch.start,
            "end": batch.end,
            "lock": lock_name(batch.lane, batch.cluster, batch.topic),
        },
    )
    if await cursor.fetchone() is None:
        raise OffsetConflict(batch.lane, batch.topic, batch.partition, batch.start)


def lock_name(lane: str, cluster: str, topic: str) -> str:
    """What the advisory lock of a position is named after; the partition is its second number."""
    return f"pointsman sink {lane} {cluster} {topic}"
