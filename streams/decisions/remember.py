"""Which ids have an outcome: read back from the end of the outcomes' partition when it is taken over."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder

from pointsman.streams.decisions.duplicates import Answered, key, short
from pointsman.streams.log_end import log, to_end

logger = logging.getLogger(__name__)


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
        return outcome.decision_id, short(int(outcome.content_hash, 16)), outcome.decided_at
    except (DecodeError, ValueError, RecursionError):  # the sink reports it
        return None


async def remember(
    servers: str, tp: TopicPartition, answered: Answered, *, ids_max: int, window_s: float
) -> int:
    """Fill ``answered`` from the last outcomes of a partition; the number read.

    Reads `read_committed`, and after the partition was fenced, to the end of the log: see `to_end`.

    Offsets are more than ids, for the ends of transactions take some, and what was aborted does. So where ``ids_max`` of
    them hold fewer ids than `Answered` keeps for certain, it is read again from further back: as far as the window or
    the log reaches.
    """
    began = time.monotonic()
    async with log(servers, tp) as (consumer, first, stable):
        since = datetime.now(UTC) - timedelta(seconds=window_s)
        reach, certain = ids_max, (ids_max + 1) // 2
        while True:
            consumer.seek(tp, max(first, stable - reach))
            count, passed = await _read(consumer, tp, answered, since)
            if count >= certain or passed or stable - reach <= first:
                break
            reach *= 2
    if count:
        took = round(time.monotonic() - began, 3)
        extra = {"topic": tp.topic, "partition": tp.partition, "ids": count, "seconds": took}
        logger.info("remembered what was answered", extra=extra)
    return count


async def _read(
    consumer: AIOKafkaConsumer, tp: TopicPartition, answered: Answered, since: datetime
) -> tuple[int, bool]:
    """How many ids it kept, and whether it met one that the window no longer reaches."""
    count, passed = 0, False
    async for records, _ in to_end(consumer, tp):
        ids = {}
        for record in records:
            known = recalled(record.value)
            if known is None:
                continue
            if known[2] >= since:
                ids[key(known[0])] = known[1]
            else:
                passed = True
        answered.keep(ids, time.monotonic())
        count += len(ids)
    return count, passed
