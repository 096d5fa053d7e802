"""How far a partition's loop is behind, as the consumer knows it, and what a lane's health is made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer

from pointsman.streams import reading
from pointsman.streams.partition import PartitionLoop

if TYPE_CHECKING:
    from pointsman.streams.lane import Lane


class Behind(NamedTuple):
    """Records that a loop has not worked on yet."""

    lag: int
    """Committed ones that it could work on now."""
    waiting: int
    """Those in delay topics that are not due."""
    known: bool
    """Whether the broker has spoken lately; else the lag is what it once was."""


async def behind(loop: PartitionLoop, consumer: AIOKafkaConsumer, recent_s: float) -> Behind:
    """Where a loop stands; ``recent_s``: what counts as lately.

    The consumer's position lies behind transaction markers, which therefore do not count.
    """
    lag, waiting, known = loop.buffered - loop.waiting, loop.waiting, loop.ready.is_set()
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


def health(lane: Lane, polling: bool) -> dict[str, object]:
    """State of a lane, also as metrics; ``polling``: whether its consumer has asked for records lately."""
    now = time.monotonic()
    loops = lane.loops.values()
    lags = {number: lane.lags.get(number, 0) for number in lane.loops}
    waiting = sum(lane.waiting.get(number, 0) for number in lane.loops)
    stalled = [
        loop.number
        for loop in loops
        if now - loop.last_progress > lane.settings.stalled_after_s
        and (lags[loop.number] > 0 or not loop.known)
    ]
    healthy = not stalled and polling and not lane.halted
    informed = reading.informed(lane.consumer, lane.topics)
    lane.metrics.lag.set(sum(lags.values()))
    lane.metrics.waiting.set(waiting)
    lane.metrics.buffered.set(sum(loop.buffered for loop in loops))
    lane.metrics.healthy.set(healthy)
    lane.metrics.halted.set(bool(lane.halted))
    return {
        "healthy": healthy,
        "halted": lane.halted,
        "ready": lane.assigned and informed and all(loop.ready.is_set() for loop in loops),
        "partitions": sorted(lane.loops),
        "lag_records": sum(lags.values()),
        "waiting_records": waiting,
        "stalled_partitions": stalled,
        "failures": {loop.number: loop.failure for loop in loops if loop.failure},
    }
