"""`ConsumerSource`: the lane's consumer, as the loop of one partition number sees it."""

from __future__ import annotations

import logging

from aiokafka import AIOKafkaConsumer, TopicPartition

from pointsman.streams import metrics
from pointsman.streams.errors import TopicProblem

logger = logging.getLogger(__name__)


class ConsumerSource:
    """The consumer, as a loop sees it."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def begin(self, positions: dict[TopicPartition, int | None]) -> dict[TopicPartition, int]:
        """Seek to where each goes on, then let records flow; raises `TopicProblem` where the log ends before."""
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
