"""`Lane`: a consumer, and a loop for each partition number it owns. Generic: decisions and the sink are two uses.

It owns assignment, back-pressure and progress; what a batch means is the work's, how it becomes final the
committer's affair.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from mode import Service

from pointsman.streams.commit import Committer
from pointsman.streams.metrics import LaneMetrics
from pointsman.streams.partition import PartitionLoop, Work
from pointsman.streams.settings import Settings
from pointsman.streams.topics import partition_numbers

logger = logging.getLogger(__name__)

POLL_MS: Final = 500
"""How long a fetch may wait for the first record; a stop waits so long at most."""
FETCH_BYTES: Final = 1024 * 1024
"""A partition's share of a fetch: some 1,500 requests, a good batch. Times the partitions it bounds memory."""
POLL_RECORDS: Final = 2_000
"""Records unpacked in one go: some 6 ms, after which the partitions get their turn."""

Factory = Callable[["Lane", int, tuple[TopicPartition, ...]], tuple[Work, Callable[[], Committer]]]


class Lane(Service):
    """Reads topics, gives each partition number a loop, and says whether there is progress."""

    abstract = False

    def __init__(
        self,
        *,
        name: str,
        topics: Iterable[str],
        group: str,
        servers: str,
        settings: Settings,
        factory: Factory,
        interval_ms: int | None = None,
        static: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.topics = tuple(topics)
        self.group = group
        self.servers = servers
        self.settings = settings
        self.metrics = LaneMetrics(name)
        self.loops: dict[int, PartitionLoop] = {}
        self.lags: dict[int, int] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._interval_ms = settings.commit_interval_ms if interval_ms is None else interval_ms
        self._static = static
        self._factory = factory
        self._polled = time.monotonic()
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            # Range keeps equal partition numbers of co-partitioned topics together; Round Robin parts them.
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=max(1, settings.session_timeout_ms // 6),
            max_poll_interval_ms=max(300_000, settings.transaction_deadline_ms * 2),
        )
        self._admin: AIOKafkaAdminClient | None = None

    @property
    def admin(self) -> AIOKafkaAdminClient:
        """An admin client, open while the lane runs."""
        assert self._admin is not None, "the lane is not started"
        return self._admin

    # -- service ---------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Connect; assignment follows by itself."""
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await self._admin.start()
        await self.consumer.start()
        if self._static:
            await self._take_all()
        else:
            self.consumer.subscribe(topics=self.topics, listener=_Listener(self))

    async def on_stop(self) -> None:
        """Drain: finish each partition's batch, commit, leave the group."""
        await self.release()
        await self.consumer.stop()
        if self._admin is not None:
            await self._admin.close()

    @Service.task
    async def _intake(self) -> None:
        while not self.should_stop:
            try:
                fetched = await self.consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            except KafkaError as error:
                logger.warning("fetch failed", extra={"lane": self.name, "error": repr(error)})
                await self.sleep(1.0)
                continue
            self._polled = time.monotonic()
            for tp, records in fetched.items():
                loop = self.loops.get(self.number_of(tp))
                if loop is not None:
                    loop.offer(tp, records)

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            try:
                await self.measure()
            except KafkaError as error:  # partitions were taken away meanwhile
                logger.debug("lag not measured: %r", error)
            self.health()
            await self.sleep(1.0)

    # -- assignment ------------------------------------------------------------------------------

    async def _take_all(self) -> None:
        """Every partition, without a group's rebalance: for the embedded broker, which has but one worker."""
        numbers = {topic: await partition_numbers(self.servers, topic) for topic in self.topics}
        assigned = [TopicPartition(topic, number) for topic in self.topics for number in numbers[topic]]
        self.consumer.assign(assigned)
        self.own(assigned)

    def number_of(self, tp: TopicPartition) -> int:
        """Which loop a partition belongs to: that of its number."""
        return int(tp.partition)

    def own(self, assigned: Iterable[TopicPartition]) -> None:
        """Start a loop for each partition number assigned."""
        numbers: dict[int, list[TopicPartition]] = {}
        for tp in assigned:
            numbers.setdefault(self.number_of(tp), []).append(tp)
            self.consumer.pause(tp)  # nothing flows before the loop has fenced and sought
        for number, partitions in sorted(numbers.items()):
            self._start_loop(number, tuple(sorted(partitions)))
        self.metrics.partitions.set(len(self.loops))
        by_topic: dict[str, list[int]] = {}
        for tp in sorted(tp for partitions in numbers.values() for tp in partitions):
            by_topic.setdefault(tp.topic, []).append(tp.partition)
        logger.info("partitions assigned", extra={"lane": self.name, "partitions": by_topic})

    def wake(self, number: int) -> None:
        """A partition has something to publish."""
        loop = self.loops.get(number)
        if loop is not None:
            loop.wake()

    async def release(self) -> None:
        """Stop all loops; one that does not end in time is cancelled, its batch done again by the successor."""
        for loop in self.loops.values():
            loop.stop()
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=self.settings.drain_s)
            for task in late:
                task.cancel()
            if late:
                logger.warning(
                    "partitions did not drain in time", extra={"lane": self.name, "count": len(late)}
                )
                await asyncio.wait(late)
        self.loops.clear()
        self._running.clear()
        self.metrics.partitions.set(0)

    def _start_loop(self, number: int, partitions: tuple[TopicPartition, ...]) -> None:
        work, committer = self._factory(self, number, partitions)
        loop = PartitionLoop(
            number=number,
            partitions=partitions,
            source=_Source(self.consumer),
            work=work,
            committer=committer,
            metrics=self.metrics,
            batch_records_max=self.settings.batch_records_max,
            interval_s=self.interval_s,
            deadline_s=self.settings.transaction_deadline_ms / 1000,
        )
        self.loops[number] = loop
        self._running[number] = asyncio.create_task(loop.run(), name=f"{self.name}-{number}")

    def interval_s(self) -> float:
        """Least time between commits of a partition: a process manages so many transactions and no more."""
        return max(self._interval_ms / 1000, len(self.loops) / self.settings.commits_per_s_max)

    # -- progress --------------------------------------------------------------------------------

    async def measure(self) -> None:
        """Bring each loop's lag up to date: committed records that it has not worked on.

        The consumer's position lies behind transaction markers, which therefore do not count.
        """
        for loop in list(self.loops.values()):
            lag, known = loop.buffered, loop.ready.is_set()
            for tp in loop.partitions if known else ():
                stable = self.consumer.last_stable_offset(tp)
                known = known and stable is not None
                if stable is not None:
                    lag += max(0, stable - await self.consumer.position(tp))
            self.lags[loop.number] = lag
            if known and not lag:
                loop.idle()

    def health(self) -> dict[str, object]:
        """State of the lane; ``healthy`` means progress, or nothing to do."""
        now = time.monotonic()
        lags = {number: self.lags.get(number, 0) for number in self.loops}
        failures = {loop.number: loop.failure for loop in self.loops.values() if loop.failure}
        stalled = [
            loop.number
            for loop in self.loops.values()
            if now - loop.last_progress > self.settings.stalled_after_s
            and (lags[loop.number] > 0 or not loop.ready.is_set())
        ]
        polling = now - self._polled < self.settings.stalled_after_s + POLL_MS / 1000
        healthy = not stalled and polling
        self.metrics.lag.set(sum(lags.values()))
        self.metrics.buffered.set(sum(loop.buffered for loop in self.loops.values()))
        self.metrics.healthy.set(healthy)
        return {
            "healthy": healthy,
            "ready": bool(self.loops) and all(loop.ready.is_set() for loop in self.loops.values()),
            "partitions": sorted(self.loops),
            "lag_records": sum(lags.values()),
            "stalled_partitions": stalled,
            "failures": failures,
        }


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Ends loops before partitions go, starts loops when they come."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        await self._lane.release()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._lane.own(assigned)


class _Source:
    """The consumer, as a loop sees it."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def begin(self, positions: dict[TopicPartition, int | None]) -> None:
        new = [tp for tp, at in positions.items() if at is None]
        earliest = await self._consumer.beginning_offsets(new) if new else {}
        for tp, at in positions.items():
            self._consumer.seek(tp, earliest[tp] if at is None else at)
            self._consumer.resume(tp)

    def pause(self, tp: TopicPartition) -> None:
        if tp in self._consumer.assignment():
            self._consumer.pause(tp)

    def resume(self, tp: TopicPartition) -> None:
        if tp in self._consumer.assignment():
            self._consumer.resume(tp)
