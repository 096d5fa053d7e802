"""Which ids have an outcome: read back from the end of the outcomes' partition when it is taken over."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from pointsman.streams import reading
from pointsman.streams.decisions.duplicates import Answered, key, short

logger = logging.getLogger(__name__)

POLL_MS: Final = 200


class _Outcome(Struct):
    """The fields that matter here; the others are skipped unread."""

    decision_id: str
    content_hash: str
    decided_at: Annotated[datetime, Meta(tz=True)]


_decode = Decoder(_Outcome).decode


def recalled(value: bytes | None) -> tuple[str, int, datetime] | None:
    """Of a record of the outcomes' topic: id, 32 bits of the content's hash, and when; None where it is not ours."""
    try:
        outcome = _decode(value or b"")
        return outcome.decision_id, short(outcome.content_hash), outcome.decided_at
    except (DecodeError, ValueError, RecursionError):  # the sink reports it
        return None


async def remember(
    servers: str, tp: TopicPartition, answered: Answered, *, ids_max: int, window_s: float
) -> int:
    """Fill ``answered`` from the last outcomes of a partition; the number read.

    Reads `read_committed`, and after the partition was fenced: what is there then is all that there is.
    """
    began = time.monotonic()
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
        end = (await consumer.end_offsets([tp]))[tp]
        start = max(first, end - ids_max)
        consumer.seek(tp, start)
        count = await _read(consumer, tp, end, answered, datetime.now(UTC) - timedelta(seconds=window_s))
    finally:
        await consumer.stop()
    if count:
        took = round(time.monotonic() - began, 3)
        extra = {"topic": tp.topic, "partition": tp.partition, "ids": count, "seconds": took}
        logger.info("remembered what was answered", extra=extra)
    return count


async def _read(
    consumer: AIOKafkaConsumer, tp: TopicPartition, end: int, answered: Answered, since: datetime
) -> int:
    count = 0
    while await consumer.position(tp) < end:
        fetched = await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=5_000)
        ids = {}
        for record in fetched.get(tp, ()):
            known = recalled(record.value)
            if known is not None and known[2] >= since:
                ids[key(known[0])] = known[1]
        answered.keep(ids, time.monotonic())
        count += len(ids)
    return count
