"""`Lane`: a consumer, and a loop for each partition number it owns. Generic: decisions and the sink are two uses.

It owns assignment, back-pressure and progress; what a batch means is the work's, how it becomes final the
committer's affair.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from mode import Service

from pointsman.streams import reading
from pointsman.streams.commit import Committer
from pointsman.streams.fetches import Fetches
from pointsman.streams.intake import POLL_MS, Intake
from pointsman.streams.membership import Member
from pointsman.streams.metrics import LaneMetrics
from pointsman.streams.partition import PartitionLoop, Work
from pointsman.streams.progress import behind
from pointsman.streams.settings import Settings
from pointsman.streams.shape import LOOK_S, TopicWatch
from pointsman.streams.slots import Slots
from pointsman.streams.source import ConsumerSource, consumer
from pointsman.streams.together import Together
from pointsman.streams.topics import partition_numbers

logger = logging.getLogger(__name__)

FAULT_S: Final = 0.1
"""Between two tries while something cannot be read, so that the log stays readable."""
APART: Final = 1 / 3
"""Of the commit interval between two fetches: what comes in between waits for the batch after anyhow."""
APART_S: Final = 0.02
"""Between two fetches at most: one partition's share of a fetch so often is more than can be decided."""
CLOSE_S: Final = 10.0
"""The consumer gets so long to leave its group; the broker expels it anyhow."""

Factory = Callable[["Lane", int, tuple[TopicPartition, ...]], tuple[Work, Callable[[], Committer]]]
Share = Callable[["Lane", Member, list[int]], Together]


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
        watched: Iterable[str] = (),
        interval_ms: int | None = None,
        static: bool = False,
        delays_s: Mapping[str, float] = {},
        at_once: int | None = None,
        share: Share | None = None,
        begin: Callable[[Lane], Awaitable[None]] | None = None,
        led: bool = False,
    ) -> None:
        """``topics``: the first leads; those in ``delays_s`` are read so long after their records' time.

        ``at_once``: batches under way at a time, of all partitions; None: one of each. ``share``: makes what the loops
        of an assignment commit with together. ``begin``: raises what keeps the lane from beginning, before it joins its group.
        ``led``: partitions of other topics rest where their number's of the first topic is not assigned here too; so it is with delays.
        """
        super().__init__()
        self.name = name
        self.topics = tuple(topics)
        self.group = group
        self.servers = servers
        self.settings = settings
        self.metrics = LaneMetrics(name)
        self.loops: dict[int, PartitionLoop] = {}
        self.lags: dict[int, int] = {}
        self.waiting: dict[int, int] = {}
        """Records by partition number that are not due yet."""
        self.watch = TopicWatch((*self.topics, *watched))
        """``watched``: topics that it writes by partition, which must stay as they are too."""
        self.halted = ""
        """Why it reads no more and waits for a person; empty while it works."""
        self.assigned = False
        """Whether the group has said what this worker owns, be it nothing: more workers than partitions is fine."""
        self.together: Together | None = None
        """What the loops commit with, from an assignment to the next; None where each has its own way."""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._interval_ms = settings.commit_interval_ms if interval_ms is None else interval_ms
        self._static = static
        self._delays_s = delays_s
        self._factory = factory
        self._share = share
        self._begin = begin
        self._led = led or bool(delays_s)
        self.consumer = consumer(servers, group, settings)
        self._fetches = Fetches(self._apart_s)
        self._slots = Slots(at_once) if at_once else None
        self._admin: AIOKafkaAdminClient | None = None
        self._source = ConsumerSource(self.consumer, self._verify)
        self._intake = Intake(
            name,
            self.consumer,
            self._source,
            self._fetches,
            self.loops,
            number_of=self.number_of,
            stopping=lambda: bool(self.should_stop),
        )

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
        await self.watch.begin(self._admin)
        if self._begin is not None:
            await self._begin(self)
        await self.consumer.start()
        self._fetches.install(self.consumer)
        if self._static:
            await self._take_all()
        else:
            self.consumer.subscribe(topics=self.topics, listener=_Listener(self))

    async def on_stop(self) -> None:
        """Drain: finish each partition's batch, commit, leave the group."""
        await self.release()
        await self._leave()
        if self._admin is not None:
            await self._admin.close()

    async def _leave(self) -> None:
        try:
            await asyncio.wait_for(self.consumer.stop(), CLOSE_S)
        except (TimeoutError, KafkaError, OSError) as error:
            logger.warning(
                "the consumer did not close politely", extra={"lane": self.name, "error": repr(error)}
            )

    @Service.task
    async def _read(self) -> None:
        while not self.should_stop and not self.halted:
            if not await self._intake.take():
                await self.sleep(FAULT_S)

    def _check_consumer(self) -> None:
        """A consumer whose background tasks have ended reads nothing, says nothing, and its lag stands still."""
        for task in reading.ended(self.consumer):
            if not self.should_stop:
                msg = f"the consumer of lane {self.name} has died"
                raise RuntimeError(msg) from (None if task.cancelled() else task.exception())

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop and not self.halted:
            self._check_consumer()
            reading.inform(self.consumer, self.topics)
            try:
                await self.measure()
            except KafkaError as error:  # partitions were taken away meanwhile
                logger.debug("lag not measured: %r", error)
            self.health()
            await self.sleep(1.0)

    @Service.task
    async def _watch_topics(self) -> None:
        while not self.should_stop and not self.halted:
            try:
                if problem := await self.watch.look(self.admin):
                    await self._halt(problem)
            except (KafkaError, OSError, TimeoutError) as error:  # a broker that says nothing says no change
                logger.debug("topics not looked at: %r", error)
            await self.sleep(LOOK_S)

    async def _verify(self) -> None:
        if self.watch.known:
            await self.watch.verify(self.admin)

    async def _halt(self, problem: str) -> None:
        """Stop reading and leave the group, but stay: a restart by itself would begin at places that mean nothing."""
        self.halted = problem
        logger.error("lane halted", extra={"lane": self.name, "error": problem})
        for task in self._running.values():
            task.cancel()  # nothing more is committed by what the topics were
        await self.release()
        await self._leave()

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
        if self.should_stop or self.halted:  # a rebalance that ends late: nobody would end these loops
            return
        numbers: dict[int, list[TopicPartition]] = {}
        for tp in assigned:
            numbers.setdefault(self.number_of(tp), []).append(tp)
            self.consumer.pause(tp)  # nothing flows before the loop has fenced and sought
            self.consumer.seek(tp, 0)  # without a position, whatever it is, the consumer would look for one
        led = sorted(number for number, partitions in numbers.items() if self._leads(partitions))
        if self._share is not None and led:
            self.together = self._share(self, Member.of(self.consumer), led)
        for number in led:
            self._start_loop(number, tuple(sorted(numbers[number], key=self._order)))
        self.assigned = True
        self.metrics.partitions.set(len(self.loops))
        by_topic: dict[str, list[int]] = {}
        for tp in sorted(tp for partitions in numbers.values() for tp in partitions):
            by_topic.setdefault(tp.topic, []).append(tp.partition)
        logger.info("partitions assigned", extra={"lane": self.name, "partitions": by_topic})

    def _order(self, tp: TopicPartition) -> tuple[bool, bool, TopicPartition]:
        """Of a loop's partitions: the leading topic first, the delay topics last."""
        return tp.topic != self.topics[0], tp.topic in self._delays_s, tp

    def _leads(self, partitions: list[TopicPartition]) -> bool:
        """Whether the partition that leads is among them.

        The loop of a number is fenced as one, so delay topics are read by whoever has the leading one. They can come
        apart while workers run side by side that subscribe to different topics; then they rest.
        """
        if not self._led or any(tp.topic == self.topics[0] for tp in partitions):
            return True
        logger.warning(
            "topics without their requests: they rest until the workers are of one kind",
            extra={"lane": self.name, "partitions": [f"{tp.topic}[{tp.partition}]" for tp in partitions]},
        )
        return False

    def wake(self, number: int) -> None:
        """A partition has something to publish."""
        loop = self.loops.get(number)
        if loop is not None:
            loop.wake()

    async def release(self) -> None:
        """Stop all loops; one that does not end in time is cancelled, its batch done again by the successor."""
        for number, loop in self.loops.items():
            loop.stop()
            if not loop.ready.is_set():  # it fences, or reads back: nothing of it needs finishing
                self._running[number].cancel()
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=self.settings.drain_s)
            for task in late:
                task.cancel()
            if late:
                logger.warning(
                    "partitions did not drain in time", extra={"lane": self.name, "count": len(late)}
                )
                await asyncio.wait(late)
        self.assigned = False
        self.loops.clear()
        self._running.clear()
        self.metrics.partitions.set(0)
        if self.together is not None:
            await self.together.end()
            self.together = None

    def _start_loop(self, number: int, partitions: tuple[TopicPartition, ...]) -> None:
        work, committer = self._factory(self, number, partitions)
        loop = PartitionLoop(
            number=number,
            partitions=partitions,
            source=self._source,
            work=work,
            committer=committer,
            metrics=self.metrics,
            batch_records_max=self.settings.batch_records_max,
            interval_s=self.interval_s,
            # Who shares transactions may wait for one first, as long as one may take.
            deadline_s=self.settings.transaction_deadline_ms / 1000 * (1 if self.together is None else 2.1),
            delays_s=self._delays_s,
            owned=self.loops.__len__,
            slots=self._slots,
        )
        self.loops[number] = loop
        self._running[number] = asyncio.create_task(loop.run(), name=f"{self.name}-{number}")

    def interval_s(self) -> float:
        """Least time between commits of a partition: a process manages so many transactions and no more."""
        return max(self._interval_ms / 1000, len(self.loops) / self.settings.commits_per_s_max)

    def _apart_s(self) -> float:
        """Least time between two fetches."""
        return min(APART * self.interval_s(), APART_S)

    # -- progress --------------------------------------------------------------------------------

    async def measure(self) -> None:
        """Bring each loop's lag up to date: committed records that it has not worked on."""
        for loop in list(self.loops.values()):
            lag, waiting, loop.known = await behind(loop, self.consumer, self.settings.stalled_after_s)
            self.lags[loop.number] = lag
            self.waiting[loop.number] = waiting
            if loop.known and not lag:
                loop.idle()

    def health(self) -> dict[str, object]:
        """State of the lane, also as metrics; ``healthy`` means progress, or nothing to do."""
        now, patience_s = time.monotonic(), self.settings.stalled_after_s
        loops = self.loops.values()
        lags = {number: self.lags.get(number, 0) for number in self.loops}
        waiting = sum(self.waiting.get(number, 0) for number in self.loops)
        stalled = [
            loop.number
            for loop in loops
            if now - loop.last_progress > patience_s and (lags[loop.number] > 0 or not loop.known)
        ]
        polling = now - self._intake.polled < patience_s + POLL_MS / 1000
        healthy = not stalled and polling and not self.halted
        self.metrics.lag.set(sum(lags.values()))
        self.metrics.waiting.set(waiting)
        self.metrics.buffered.set(sum(loop.buffered for loop in loops))
        self.metrics.healthy.set(healthy)
        self.metrics.halted.set(bool(self.halted))
        informed = reading.informed(self.consumer, self.topics)
        return {
            "healthy": healthy,
            "halted": self.halted,
            "ready": self.assigned and informed and all(loop.ready.is_set() for loop in loops),
            "partitions": sorted(self.loops),
            "lag_records": sum(lags.values()),
            "waiting_records": waiting,
            "stalled_partitions": stalled,
            "failures": {loop.number: loop.failure for loop in loops if loop.failure},
        }


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Ends loops before partitions go, starts loops when they come."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002
        await self._lane.release()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            self._lane.own(assigned)
        except Exception as error:  # noqa: BLE001 - the consumer would log it and go on without a loop
            await self._lane.crash(error)
