"""Reads the state of a partition back from its changelog."""

from __future__ import annotations

import logging
import time
from typing import Final

from aiokafka import TopicPartition

from pointsman.streams import metrics, reading
from pointsman.streams.log_end import to_end
from pointsman.streams.state.partition import PartitionState

logger = logging.getLogger(__name__)

TELL_S: Final = 5.0
"""A long restore says how far it is so often."""


async def restore(servers: str, tp: TopicPartition, state: PartitionState, since: int | None = None) -> int:
    """Load all records from ``since`` (None: the beginning) up to the log's end; the offset behind them.

    Reads `read_committed`, after the partition was fenced, and waits for what is open: see `to_end`.
    """
    if not state.units:
        return 0
    began = told = time.monotonic()
    count = 0
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
        consumer.seek(tp, first if since is None else max(first, since))
        async for records, end in to_end(consumer, tp):
            for record in records:
                state.load(record)
            count += len(records)
            metrics.STATE_RESTORED.inc(len(records))
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                extra = {"partition": tp.partition, "at": await consumer.position(tp), "end": end}
                logger.info("restoring keyed state", extra=extra)
        position = int(await consumer.position(tp))
    finally:
        await consumer.stop()
    if count:
        took = round(time.monotonic() - began, 3)
        extra = {"topic": tp.topic, "partition": tp.partition, "records": count, "seconds": took}
        logger.info("restored keyed state", extra=extra)
    return position
