"""How far a partition's loop is behind, as the consumer knows it."""

from __future__ import annotations

import time
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer

from pointsman.streams.partition import PartitionLoop


class Behind(NamedTuple):
    """Records that a loop is not done with."""

    lag: int
    """Those that it works on, and committed ones that it could work on now."""
    waiting: int
    """Those in delay topics that are not due."""
    known: bool
    """Whether the broker has spoken lately; else the lag is what it once was."""


async def behind(loop: PartitionLoop, consumer: AIOKafkaConsumer, recent_s: float) -> Behind:
    """Where a loop stands; ``recent_s``: what counts as lately.

    The consumer's position lies behind transaction markers, which therefore do not count.
    """
    lag = loop.buffered - loop.waiting + loop.under_way
    waiting, known = loop.waiting, loop.ready.is_set()
    since_ms = (time.time() - recent_s) * 1000
    for tp in loop.partitions if known else ():
        stable = consumer.last_stable_offset(tp)
        if loop.holds(tp):  # not fetched while it is full: nothing of it could be worked on
            waiting += max(0, (stable or 0) - await consumer.position(tp))
            continue
        # Without a recent answer of the broker the offset is what once was: no sign of idleness.
        known = known and stable is not None and (consumer.last_poll_timestamp(tp) or 0) > since_ms
        if stable is not None:
            lag += max(0, stable - await consumer.position(tp))
    return Behind(lag, waiting, known)
