"""`ConsumerSource`: the lane's consumer, as the loop of one partition number sees it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from pointsman.streams import metrics
from pointsman.streams.errors import TopicProblem

logger = logging.getLogger(__name__)


class ConsumerSource:
    """Finds where to begin, and lets records flow or not."""

    def __init__(self, consumer: AIOKafkaConsumer, verify: Callable[[], Awaitable[None]]) -> None:
        self._consumer = consumer
        self._verify = verify

    async def begin(self, positions: dict[TopicPartition, int | None]) -> dict[TopicPartition, int]:
        """Seek, then let records flow. Raises `TopicProblem` where the positions mean nothing any more."""
        await self._verify()
        earliest = await self._consumer.beginning_offsets(list(positions))
        latest = await self._consumer.end_offsets(list(positions))
        begun = {}
        for tp, at in positions.items():
            begun[tp] = earliest[tp] if at is None else at
            if begun[tp] > latest[tp]:
                msg = f"{tp.topic}[{tp.partition}] ends at {latest[tp]}, before the committed position {at}: the log was cut, or the topic made anew"
                raise TopicProblem(msg)
            if begun[tp] < earliest[tp]:
                metrics.LOST.labels(tp.topic).inc(earliest[tp] - begun[tp])
                extra = {"topic": tp.topic, "partition": tp.partition, "wanted": at, "earliest": earliest[tp]}
                logger.error("retention took records before they were read", extra=extra)
                begun[tp] = earliest[tp]
            self._consumer.seek(tp, begun[tp])
            self._consumer.resume(tp)
        return begun

    def pause(self, tp: TopicPartition) -> None:
        """Let no more records flow; nothing to do where a rebalance has taken the partition away."""
        if tp in self._consumer.assignment():
            self._consumer.pause(tp)

    def resume(self, tp: TopicPartition) -> None:
        """Let them flow again, where the partition is still here."""
        if tp in self._consumer.assignment():
            self._consumer.resume(tp)
