"""Flags: `FlagFollower` keeps every worker's copy current; `FlagWriter` is the one fenced writer."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage, PointsmanError
from pointsman.streams import metrics, reading
from pointsman.streams.shape import shapes
from pointsman.streams.topics import connect, partition_numbers

logger = logging.getLogger(__name__)

READ_S: Final = 15.0
WATCH_S: Final = 2.0
"""Between two looks at the id of the topic."""
SILENCE_S: Final = 5.0
"""A fetch is answered every 100 ms."""
_decoder = Decoder(Flag)


class Flags:
    """The flags as they stand now, by name."""

    def __init__(self, flags: Mapping[str, Flag] | None = None) -> None:
        self._flags = dict(flags or {})
        self._superseded: set[str] = set()
        """Names whose known version says nothing any more."""

    def get(self, name: str) -> Flag | None:
        """A flag, or None where it was never set: it counts as 0."""
        return self._flags.get(name)

    def all(self) -> list[Flag]:
        """Every flag, by name."""
        return [self._flags[name] for name in sorted(self._flags)]

    def begin_anew(self) -> None:
        """The topic was made anew: its versions begin at 1 again. The values stand until others are set."""
        self._superseded = set(self._flags)

    def apply(self, flag: Flag) -> None:
        """Take a newer value over; an older one (a replayed record) changes nothing."""
        known = self._flags.get(flag.name)
        if known is None or flag.version >= known.version or flag.name in self._superseded:
            self._superseded.discard(flag.name)
            self._flags[flag.name] = flag
            metrics.FLAG.labels(flag.name).set(flag.percentage)
            metrics.FLAG_VERSION.labels(flag.name).set(flag.version)


class FlagFollower(Service):
    """Follows `control-flags` with a consumer of its own: no group, all partitions, from the start.

    Where the topic cannot be read, the last known flags stand; a metric says so.
    """

    abstract = False

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__()
        self.flags = Flags()
        self.topic = topic
        self.current = asyncio.Event()
        """Set when everything that was in the topic at the start has been read."""
        self._servers = servers
        self._topic_id = ""
        self._anew = asyncio.Event()
        """Set when the topic has to be read from its beginning again."""

    async def on_start(self) -> None:
        """Nothing is known yet, whatever a follower before this one knew."""
        metrics.FLAGS_CURRENT.set(0)

    @Service.task
    async def _follow(self) -> None:
        while not self.should_stop:
            try:
                await self._read()
            except (KafkaError, OSError, PointsmanError) as error:
                metrics.FLAGS_CURRENT.set(0)
                logger.warning(
                    "flags cannot be followed; the last known ones stand", extra={"error": repr(error)}
                )
                await self.sleep(1.0)

    @Service.task
    async def _watch(self) -> None:
        """A topic made anew begins at version 1, which nobody would take who knows a higher one."""
        while not self.should_stop:
            try:
                async with AsyncExitStack() as stack:
                    admin = await connect(self._servers)
                    stack.push_async_callback(admin.close)
                    while not self.should_stop:
                        self._look((await shapes(admin, [self.topic]))[self.topic].id)
                        await self.sleep(WATCH_S)
            except (KafkaError, OSError, PointsmanError) as error:
                logger.debug("the flags' topic was not looked at: %r", error)
                await self.sleep(WATCH_S)

    def _look(self, topic_id: str) -> None:
        if self._topic_id and topic_id and topic_id != self._topic_id:
            logger.error("the flags' topic was made anew: the last known flags stand, set them again")
            self.flags.begin_anew()
            self._anew.set()
        self._topic_id = topic_id or self._topic_id

    async def _read(self) -> None:
        self._anew.clear()
        async with AsyncExitStack() as stack:
            consumer = reading.consumer(
                bootstrap_servers=self._servers,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                fetch_max_wait_ms=100,
            )
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            ends = await _assign_all(consumer, self._servers, self.topic)
            while not self.should_stop and not self._anew.is_set():
                for records in (await consumer.getmany(timeout_ms=250)).values():
                    for record in records:
                        apply(self.flags, record.value)
                if not self.current.is_set() and await _reached(consumer, ends):
                    self.current.set()
                if consumer._fetcher.error_future.done():  # noqa: SLF001 - else it would wait for ever, in silence
                    msg = "the consumer of the flags has died"
                    raise KafkaError(msg)
                metrics.FLAGS_CURRENT.set(_heard_of(consumer, ends))


class FlagWriter:
    """Reads and sets flags. A fixed transactional id fences a writer that was paused and resumed."""

    def __init__(self, servers: str, topic: str, *, group: str, transactional: bool = True) -> None:
        self._servers = servers
        self._topic = topic
        self._transactional_id = f"{group}-flags" if transactional else None

    async def read(self) -> Flags:
        """All flags as they are now."""
        flags = Flags()
        consumer = reading.consumer(bootstrap_servers=self._servers, isolation_level="read_committed")
        await consumer.start()
        try:
            ends = await _assign_all(consumer, self._servers, self._topic)
            async with asyncio.timeout(READ_S):
                while not await _reached(consumer, ends):
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        for record in records:
                            apply(flags, record.value)
        finally:
            await consumer.stop()
        return flags

    async def set(self, name: str, percentage: float, *, by: str, why: str = "") -> Flag:
        """Set a flag. The producer starts, and so fences others, before the current value is read.

        Raises `InvalidMessage` where the name or the percentage is none.
        """
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers, transactional_id=self._transactional_id, acks="all"
        )
        await producer.start()
        try:
            known = (await self.read()).get(name)
            flag = checked(
                name=name,
                percentage=percentage,
                version=known.version + 1 if known else 1,
                seed=known.seed if known else secrets.token_hex(8),
                changed_at=datetime.now(UTC),
                changed_by=by,
                why=why,
            )
            if self._transactional_id:
                async with producer.transaction():
                    await producer.send_and_wait(self._topic, encode(flag), key=name.encode())
            else:
                await producer.send_and_wait(self._topic, encode(flag), key=name.encode())
        finally:
            await producer.stop()
        return flag


def checked(**fields: Any) -> Flag:
    """A flag that its readers will take. Raises `InvalidMessage` that names the field."""
    return _decoder.decode(encode(Flag(**fields)))


def apply(flags: Flags, value: bytes | None) -> None:
    """One record of the flag topic; one that is not a flag is logged and passed over."""
    if value is None:
        return
    try:
        flags.apply(_decoder.decode(value))
    except InvalidMessage as error:
        logger.error(
            "a record of the flag topic is no flag", extra={"field": error.field, "error": str(error)}
        )


async def _assign_all(consumer: AIOKafkaConsumer, servers: str, topic: str) -> dict[TopicPartition, int]:
    """Assign every partition of a topic, from its beginning; its end offsets now."""
    partitions = [TopicPartition(topic, number) for number in await partition_numbers(servers, topic)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    return ends


def _heard_of(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> bool:
    """Whether the broker answered lately; errors of a fetch are not raised."""
    since_ms = (time.time() - SILENCE_S) * 1000
    return all((consumer.last_poll_timestamp(tp) or 0) > since_ms for tp in partitions)


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all([await consumer.position(tp) >= end for tp, end in ends.items()])
