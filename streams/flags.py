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
from pointsman.streams.topics import partition_numbers

logger = logging.getLogger(__name__)

READ_S: Final = 15.0
SILENCE_S: Final = 5.0
"""A fetch is answered every 100 ms."""
_decoder = Decoder(Flag)


class Flags:
    """The flags as they stand now, by name."""

    def __init__(self, flags: Mapping[str, Flag] | None = None) -> None:
        self._flags = dict(flags or {})

    def get(self, name: str) -> Flag | None:
        """A flag, or None where it was never set: it counts as 0."""
        return self._flags.get(name)

    def all(self) -> list[Flag]:
        """Every flag, by name."""
        return [self._flags[name] for name in sorted(self._flags)]

    def apply(self, flag: Flag) -> None:
        """Take a newer value over; an older one (a replayed record) changes nothing."""
        known = self._flags.get(flag.name)
        if known is None or flag.version >= known.version:
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

    async def _read(self) -> None:
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
            while not self.should_stop:
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
