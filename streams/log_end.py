"""Reading a partition up to where its log ends, for whoever has taken it over."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

logger = logging.getLogger(__name__)

POLL_MS: Final = 200
RECORDS: Final = 5_000
"""At a time."""
QUIET_POLLS: Final = 10
"""After so many without a record the log says what is waited for."""


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
