"""Reads the state of a partition back: from its local snapshot as far as that reaches, then from its changelog."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from pointsman.streams import metrics
from pointsman.streams.log_end import log, to_end
from pointsman.streams.output import Message
from pointsman.streams.state.changelog import Pair
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.snapshot import WASTE

logger = logging.getLogger(__name__)

TELL_S: Final = 5.0
"""A long restore says how far it is so often."""
AT_ONCE: Final = 10_000
"""Records of a snapshot that are in memory beside the state."""
SMALL: Final = 10_000
"""Records. So many that are no more are not worth writing a file anew."""


async def restore(servers: str, tp: TopicPartition, state: PartitionState) -> int:
    """Load everything up to the log's end; the number of records that were read from the changelog.

    Reads `read_committed`, after the partition was fenced, and waits for what is open: see `to_end`.
    """
    if not state.units:
        return 0
    began = time.monotonic()
    async with log(servers, tp) as (consumer, first, stable):
        known, since = await _from_snapshot(state, first, stable)
        consumer.seek(tp, since)
        count = await _from_changelog(consumer, tp, state, known, since)
    state.show()
    if known or count:
        took = round(time.monotonic() - began, 3)
        extra = {"topic": tp.topic, "partition": tp.partition, "records": count, "from_snapshot": known}
        logger.info("restored keyed state", extra={**extra, "seconds": took})
    return count


async def _from_snapshot(state: PartitionState, first: int, stable: int) -> tuple[int, int]:
    """How many records it had, and from where on the changelog is to be read."""
    known, since = 0, first
    if (snapshot := state.snapshot) is None:
        return known, since
    blocks = snapshot.blocks(stable)
    while some := await asyncio.to_thread(_some, blocks):
        for offset, records in some:
            for key, value in records:
                state.load(key, value)
            known, since = known + len(records), max(since, offset)
    return known, since


def _some(blocks: Iterator[tuple[int, list[Pair]]]) -> list[tuple[int, list[Pair]]]:
    """The next blocks, each of which may be small."""
    found, count = [], 0
    for offset, records in blocks:
        found.append((offset, records))
        count += len(records)
        if count >= AT_ONCE:
            break
    return found


async def _from_changelog(
    consumer: AIOKafkaConsumer, tp: TopicPartition, state: PartitionState, known: int, since: int
) -> int:
    """``known``: records that the snapshot had; ``since``: where it ends, which is where the consumer stands."""
    count, told = 0, time.monotonic()
    missed: list[Message] = []
    async for records, end in to_end(consumer, tp):
        for record in records:
            state.load(record.key, record.value)
        if known:
            missed += [(record.key, record.value, []) for record in records]
        count += len(records)
        metrics.STATE_RESTORED.inc(len(records))
        if time.monotonic() - told > TELL_S:
            told = time.monotonic()
            extra = {"partition": tp.partition, "at": await consumer.position(tp), "end": end}
            logger.info("restoring keyed state", extra=extra)
    if (snapshot := state.snapshot) is not None:
        position = int(await consumer.position(tp))
        # A file that holds much that is no more is written anew; nothing changes meanwhile.
        if not known or known + count > WASTE * len(state) + SMALL:
            await asyncio.to_thread(snapshot.begin, state.live(), position)
        else:
            snapshot.begin(None, since)
            snapshot.append(missed, position)
    return count
