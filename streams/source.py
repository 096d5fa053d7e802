"""A lane's consumer: how it is made, and as `ConsumerSource` what the loop of one partition number sees of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from pointsman.streams import metrics, reading
from pointsman.streams.errors import TopicProblem
from pointsman.streams.settings import Settings

logger = logging.getLogger(__name__)

FETCH_BYTES: Final = 1024 * 1024
"""A partition's share of a fetch: some 1,500 requests, a good batch. Times the partitions it bounds memory."""


def consumer(servers: str, group: str, settings: Settings) -> AIOKafkaConsumer:
    """Not started yet."""
    reading.install(settings.batch_inflated_bytes_max)
    return reading.consumer(
        bootstrap_servers=servers,
        group_id=group,
        enable_auto_commit=False,
        # Said aloud here instead: a reset in silence would pass over what retention has taken.
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_bytes=16 * FETCH_BYTES,  # of one answer, whatever the number of partitions
        fetch_max_wait_ms=settings.fetch_wait_ms,
        # Range keeps equal partition numbers of co-partitioned topics together; Round Robin parts them.
        partition_assignment_strategy=(RangePartitionAssignor,),
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=max(1, settings.session_timeout_ms // 6),
        # A revoked worker first drains and closes its producers, a partition's own and then the shared ones, 9 s each
        # where the broker is silent; a member that answers a rebalance later is expelled.
        rebalance_timeout_ms=max(settings.session_timeout_ms, (settings.drain_s + 20) * 1000),
        max_poll_interval_ms=max(300_000, settings.transaction_deadline_ms * 2),
    )


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
