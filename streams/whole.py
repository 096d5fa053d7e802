"""Every committed record of a topic as it is now, read once and in the order of each partition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from aiokafka import TopicPartition

from pointsman.streams import reading
from pointsman.streams.errors import KafkaUnavailable
from pointsman.streams.output import Record
from pointsman.streams.topics import partition_numbers

SILENCE_S: Final = 30.0
"""Without a record and without an end for so long, the broker is not there."""
POLL_MS: Final = 200


async def whole(servers: str, topic: str) -> AsyncGenerator[Record, None]:
    """The records up to the ends at the moment of asking. Raises `TopicProblem`, `KafkaUnavailable`."""
    partitions = [TopicPartition(topic, number) for number in await partition_numbers(servers, topic)]
    consumer = reading.consumer(
        bootstrap_servers=servers, isolation_level="read_committed", fetch_max_wait_ms=POLL_MS
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while left := [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            try:
                async with asyncio.timeout(SILENCE_S):
                    while not (fetched := await consumer.getmany(*left, timeout_ms=POLL_MS)):
                        if all([await consumer.position(tp) >= ends[tp] for tp in left]):
                            break  # only markers of transactions were left
            except TimeoutError:
                msg = f"the broker at {servers} stopped answering while {topic} was read"
                raise KafkaUnavailable(msg) from None
            for tp, records in fetched.items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield record
    finally:
        await consumer.stop()
