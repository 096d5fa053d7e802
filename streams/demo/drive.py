"""Drives a timeline through Kafka: asks, waits for outcomes, tells what became known, and loses nothing on the way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from pointsman.schemas.codec import encode
from pointsman.schemas.errors import PointsmanError
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.request import DecisionRequest
from pointsman.streams import reading
from pointsman.streams.cli.deployment import Deployment
from pointsman.streams.demo.pace import Pace
from pointsman.streams.demo.timeline import AGENT, Event
from pointsman.streams.errors import KafkaUnavailable
from pointsman.streams.store.errors import translated
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load
from pointsman.streams.topics import partition_numbers

_SQL: Final = load("figures.sql", "pointsman.streams.demo")
BLOCK: Final = 32
"""Requests of one unit that are asked before anything of them is told. Then what each decision knows of the past is so
many decisions old at most, and the same in every replay."""
LEARN_S: Final = 0.005
"""Between two looks at what the decision lane has read."""
LOOK_S: Final = 0.1
"""Between two looks at what the database has."""
FETCH_MS: Final = 10
"""The embedded broker sleeps a fetch's whole wait through, though outcomes come meanwhile."""
STALLED_S: Final = 30.0
"""Without any progress for so long it is given up: a worker that died is back sooner."""
RECORD_EXTRA: Final = 100
"""Bytes of a record beyond its key and value, headers included."""


class DemoStalled(PointsmanError):
    """Nothing moves any more; says how far it came and where the logs are."""


@dataclass(slots=True)
class Counts:
    """How far the replay is."""

    asked: int = 0
    answered: int = 0
    told: int = 0
    """Feedback events that were sent."""
    doubled: int = 0
    """Outcomes of a request that had one already: the embedded broker delivers at least once."""
    first_sent_at: float = 0.0
    last_answered_at: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first request to the last outcome."""
        return max(1e-9, self.last_answered_at - self.first_sent_at)


@dataclass(slots=True)
class Drive:
    """One replay. ``progress`` is called after every look with the counts so far."""

    deployment: Deployment
    connection: Connection
    run_name: str
    progress: Callable[[Counts], None] = lambda _counts: None
    switch: tuple[int, Callable[[], Awaitable[None]]] | None = None
    """Awaited after so many requests, when all of them have outcomes."""
    pace: Pace = field(default_factory=Pace)
    counts: Counts = field(default_factory=Counts)
    _due: list[Event] = field(default_factory=list)
    _block: Counter[str] = field(default_factory=Counter)
    _told: dict[TopicPartition, int] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _last_move: float = field(default_factory=time.monotonic)
    _failure: BaseException | None = None
    _producer: Any = None
    _positions: Any = None
    """Never reads; it is asked how far the lane is."""
    _partitions: int = 0
    _sending: int = 0

    async def run(self, events: list[Event]) -> Counts:
        """Replay all events and wait for the last outcome. Raises `DemoStalled` and `KafkaUnavailable`."""
        try:
            async with AsyncExitStack() as stack:
                consumer = await self._connect(stack)
                tasks = [asyncio.create_task(self._follow(consumer)), asyncio.create_task(self._look())]
                for task in tasks:
                    task.add_done_callback(self._ended)
                stack.push_async_callback(_cancel, tasks)
                for event in events:
                    if event.kind == "ask":
                        await self._ask(event)
                    else:
                        self._due.append(event)
                await self._end_block()
                await self._until(lambda: not self._sending and self.pace.stored_all)
        except KafkaError as error:
            msg = f"Kafka at {self.deployment.kafka} failed: {error!r}"
            raise KafkaUnavailable(msg) from error
        return self.counts

    async def _connect(self, stack: AsyncExitStack) -> AIOKafkaConsumer:
        servers, outcomes = self.deployment.kafka, self.deployment.names.outcomes
        consumer = reading.consumer(
            bootstrap_servers=servers, isolation_level="read_committed", fetch_max_wait_ms=FETCH_MS
        )
        await consumer.start()
        stack.push_async_callback(consumer.stop)
        numbers = await partition_numbers(servers, outcomes)
        self._partitions = len(numbers)
        self._positions = reading.consumer(
            bootstrap_servers=servers, group_id=self.deployment.settings.group, enable_auto_commit=False
        )
        await self._positions.start()
        stack.push_async_callback(self._positions.stop)
        consumer.assign([TopicPartition(outcomes, number) for number in numbers])
        await consumer.seek_to_end()
        for tp in consumer.assignment():
            await consumer.position(tp)  # settles "the end" before the first request is sent
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers, acks="all", enable_idempotence=True, linger_ms=2
        )
        await self._producer.start()
        stack.push_async_callback(self._producer.stop)
        return consumer

    # -- sending ---------------------------------------------------------------------------------

    async def _ask(self, event: Event) -> None:
        request = DecisionRequest(
            id=event.id, agent=AGENT, unit=event.unit, input=msgspec.Raw(event.body), requested_at=event.at
        )
        value = encode(request)
        partition = self._partition(event.unit)
        outcomes = self.deployment.names.outcomes
        if self._block[event.unit] == BLOCK:
            await self._end_block()
        if self.switch is not None and self.counts.asked == self.switch[0]:
            await self._end_block()
            await self.switch[1]()
        self._block[event.unit] += 1
        await self._until(lambda: self.pace.room(partition, len(value), outcomes))
        self.counts.first_sent_at = self.counts.first_sent_at or time.monotonic()
        self.pace.sent(event.id, partition, len(value))
        await self._send(self.deployment.names.requests, event.unit, value, partition, stored=False)
        self.counts.asked += 1

    async def _end_block(self) -> None:
        """All that was asked is answered, all that became known meanwhile is told, and learned."""
        await self._until(lambda: not self.pace.waiting)
        for event in self._due:
            await self._tell(event)
        self._due.clear()
        self._block.clear()
        await self._producer.flush()
        await self._until(lambda: not self._sending)
        self._move()
        for tp, end in self._told.items():
            while (await self._positions.committed(tp) or 0) < end:
                if self._failure is not None:
                    raise self._failure
                if time.monotonic() - self._last_move > STALLED_S:
                    raise DemoStalled(self._stalled())
                await asyncio.sleep(LEARN_S)
        self._told.clear()

    async def _tell(self, event: Event) -> None:
        feedback = Feedback(
            id=f"{event.id}-{event.value if event.kind == 'signal' else 'label'}",
            decision_id=event.id,
            agent=AGENT,
            unit=event.unit,
            observed_at=event.at,
            sender="history",
            label=event.value if event.kind == "label" else None,
            signal=event.value if event.kind == "signal" else None,  # type: ignore[arg-type]
        )
        value = encode(feedback)
        place = (self.deployment.names.feedback, self._partition(event.unit))
        await self._until(lambda: self.pace.room_for(place, len(value)))
        await self._send(*place[:1], event.unit, value, place[1], stored=True)
        self.counts.told += 1

    def _partition(self, key: str) -> int:
        """As every Kafka client's default partitioner has it."""
        return int(murmur2(key.encode()) & 0x7FFF_FFFF) % self._partitions

    async def _send(self, topic: str, key: str, value: bytes, partition: int, *, stored: bool) -> None:
        future = await self._producer.send(topic, value, key=key.encode(), partition=partition)
        self._sending += 1
        size = len(value) + len(key) + RECORD_EXTRA
        future.add_done_callback(lambda done: self._sent(done, size, stored=stored))

    def _sent(self, done: asyncio.Future[RecordMetadata], size: int, *, stored: bool) -> None:
        self._sending -= 1
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._failure = self._failure or error
        elif stored:
            written = done.result()
            self._told[written.topic_partition] = max(
                written.offset + 1, self._told.get(written.topic_partition, 0)
            )
            self.pace.written((written.topic, written.partition), written.offset, size)
        self._moved.set()

    # -- following -------------------------------------------------------------------------------

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        """Outcomes make room for more."""
        while True:
            for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                for record in records:
                    size = len(record.value or b"") + len(record.key or b"") + RECORD_EXTRA
                    self.pace.written((tp.topic, tp.partition), record.offset, size)
                    self._answered((record.key or b"").decode("utf-8", "replace"))
                self._move()

    def _answered(self, id_: str) -> None:
        if self.pace.answered(id_):
            self.counts.answered += 1
            self.counts.last_answered_at = time.monotonic()
            self._done.add(id_)
        elif id_ in self._done:
            self.counts.doubled += 1

    async def _look(self) -> None:
        """What the database has makes room for more."""
        while True:
            async with translated():
                cursor = await self.connection.execute(
                    _SQL["positions"], {"cluster": self.deployment.cluster}
                )
                for topic, partition, next_offset in await cursor.fetchall():
                    before = self.pace.unread((topic, partition))
                    self.pace.stored((topic, partition), next_offset)
                    if self.pace.unread((topic, partition)) != before:
                        self._move()
            self.progress(self.counts)
            await asyncio.sleep(LOOK_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error
            self._moved.set()

    def _move(self) -> None:
        self._last_move = time.monotonic()
        self._moved.set()

    async def _until(self, met: Callable[[], bool]) -> None:
        """Wait for something to be true. Raises what went wrong meanwhile, and `DemoStalled` when nothing moves."""
        waited = False
        while not met() or self._failure:
            if self._failure is not None:
                raise self._failure
            if waited and time.monotonic() - self._last_move > STALLED_S:
                raise DemoStalled(self._stalled())
            if not waited:
                self._last_move, waited = time.monotonic(), True
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), 1.0)
            except TimeoutError:
                continue

    def _stalled(self) -> str:
        counts = self.counts
        return (
            f"no progress for {STALLED_S:.0f} s: {counts.asked} requests sent, {counts.answered} outcomes, "
            f"{counts.told} feedback events sent, {self.pace.waiting} without outcome"
        )


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
