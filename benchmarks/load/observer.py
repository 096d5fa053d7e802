"""What a consumer of outcomes sees: `read_committed`, librdkafka, each outcome's time of arrival."""

from __future__ import annotations

import gc
import time
from types import TracebackType
from typing import Self

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.load.messages import number_of
from benchmarks.load.schedule import Times

POLL_S = 0.1
AT_ONCE = 10_000
LEADER_S = 20.0


class Doubled(RuntimeError):
    """A request had two outcomes: what is measured does not work."""


class Observer:
    """Reads outcomes from their end on; one for a whole deployment, in a process that does nothing else meanwhile."""

    def __init__(self, servers: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "observer",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # A full queue is looked at again after a second by default, which would be latency of our own.
                "fetch.queue.backoff.ms": 5,
                "fetch.wait.max.ms": 100,
            }
        )
        partitions = self._consumer.list_topics(topic, timeout=20).topics[topic].partitions
        at = [TopicPartition(topic, number) for number in partitions]
        for tp in at:
            tp.offset = self._end(tp)
        self._consumer.assign(at)

    def _end(self, tp: TopicPartition) -> int:
        """A topic that was just made may have no leader yet: that is asked for again."""
        until_s = time.monotonic() + LEADER_S
        while True:
            try:
                end: int = self._consumer.get_watermark_offsets(tp, timeout=20)[1]
            except KafkaException:  # which of them pass by themselves, the client does not say
                if time.monotonic() > until_s:
                    raise
                time.sleep(POLL_S)
            else:
                return end

    def collect(self, token: str, count: int, *, until_s: float, wanted: int | None = None) -> Times:
        """When each of a run's ``count`` outcomes was seen; NaN for those that were not.

        Ends when all are there, or so many as are ``wanted``, or at ``until_s``. Raises `Doubled`.
        """
        seen: list[float | None] = [None] * count
        left = count if wanted is None else wanted
        clock, consume = time.monotonic, self._consumer.consume
        gc.disable()  # and none made here: of a loaded history it takes 20 ms, which a single request would be charged
        try:
            while left > 0 and clock() < until_s:
                # One as soon as it is there, and with it all that are; `consume` of many would wait for more.
                messages = consume(1, POLL_S)
                messages += consume(AT_ONCE, 0) if messages else []
                now = clock()
                for message in messages:
                    number = None if message.error() else number_of(token, message.key() or b"")
                    if number is None:
                        continue
                    if seen[number] is not None:
                        msg = f"request {number} has two outcomes"
                        raise Doubled(msg)
                    seen[number] = now
                    left -= 1
        finally:
            gc.enable()
        return np.array(seen, dtype=np.float64)  # None becomes NaN

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
