"""Reading a partition up to where its log ends, for whoever has taken it over."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from pointsman.streams import reading

logger = logging.getLogger(__name__)

POLL_MS: Final = 200
RECORDS: Final = 5_000
"""At a time."""
QUIET_POLLS: Final = 10
"""After so many without a record the log says what is waited for."""


class Log(NamedTuple):
    """A partition that is read by nobody else's group."""

    consumer: AIOKafkaConsumer
    first: int
    """Its first offset."""
    stable: int
    """The offset behind what can be read now."""


@asynccontextmanager
async def log(servers: str, tp: TopicPartition) -> AsyncIterator[Log]:
    """Committed records only; seek before reading."""
    consumer = reading.consumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        first = (await consumer.beginning_offsets([tp]))[tp]
        stable = (await consumer.end_offsets([tp]))[tp]
        yield Log(consumer, first, stable)
    finally:
        await consumer.stop()


async def to_end(consumer: AIOKafkaConsumer, tp: TopicPartition) -> AsyncIterator[tuple[Sequence[Any], int]]:
    """Committed records from the consumer's position on, some at a time, and where the log ended when this began.

    Call it after the partition was fenced: what is there then is all that there is. It is there, but perhaps not readable
    yet: a transaction that the last owner's partitions shared may be open, or its end not written here. So this reads to
    the end of the log and not of what is stable, and waits for that, as long as such a transaction may take.
    """
    end, quiet = None, 0
    while end is None or await consumer.position(tp) < end:
        fetched = await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=RECORDS)
        end = consumer.highwater(tp) if end is None else end  # the first answer says it
        records = fetched.get(tp, ())
        quiet = 0 if records else quiet + 1
        if quiet == QUIET_POLLS:
            extra = {"topic": tp.topic, "partition": tp.partition, "end": end}
            logger.info("nothing to read yet: a transaction may be open", extra=extra)
        yield records, end or 0
