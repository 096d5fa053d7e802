"""Records that a group has not read yet: how many, and where they belong once there are more partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from pointsman.schemas.retry import HEADER_KEPT
from pointsman.streams.decisions.retry import kept_in
from pointsman.streams.log_end import to_end
from pointsman.streams.partitioner import Home
from pointsman.streams.topics import Names


class Sent(NamedTuple):
    """A record to be sent to where it belongs."""

    topic: str
    partition: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


Offsets = Mapping[TopicPartition, OffsetAndMetadata]


class Backlog:
    """Of all partitions of some topics, from the committed offsets to the ends of their logs."""

    def __init__(self, consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> None:
        """``consumer``: reads `read_committed` and has no group; ``ends``: of the logs, with what is not committed."""
        self._consumer = consumer
        self._ends = ends

    async def count(self, committed: Offsets) -> dict[str, int]:
        """How many wait, by topic; those with none are left out."""
        found: dict[str, int] = {}
        for tp in self._ends:
            async for records in self.records(tp, committed):
                found[tp.topic] = found.get(tp.topic, 0) + len(records)
        return {topic: count for topic, count in found.items() if count}

    async def records(self, tp: TopicPartition, committed: Offsets) -> AsyncIterator[Sequence[Any]]:
        """Those of one partition. The ends of transactions lie behind what was read, and are no records."""
        first = (await self._consumer.beginning_offsets([tp]))[tp]
        at = committed[tp].offset if tp in committed else -1
        since = max(first, at)
        if since >= self._ends[tp]:
            return
        self._consumer.assign([tp])
        self._consumer.seek(tp, since)
        async for records, _ in to_end(self._consumer, tp):
            yield records

    async def astray(
        self, tp: TopicPartition, committed: Offsets, names: Names, after: int, home: Home
    ) -> tuple[list[Sent], int]:
        """Of a partition some of whose records belong elsewhere, all that wait with where they belong, and their end.

        A position is one number: what comes behind a record that is sent elsewhere is sent behind it once more.
        """
        found: list[Sent] = []
        end = 0
        async for records in self.records(tp, committed):
            found += (belongs(record, names, after, home) for record in records)
            if records:
                end = records[-1].offset + 1
        if all((each.topic, each.partition) == tp for each in found):
            return [], 0
        return found, end


def belongs(record: Any, names: Names, after: int, home: Home) -> Sent:
    """Where a record is to lie with so many partitions. One without a key stays: nobody's state depends on it.

    What waits in a delay topic says that it is of this partition, so elsewhere it begins as a request.
    """
    place = record.partition if record.key is None else home(record.key, after)
    headers, timestamp, topic = list(record.headers), record.timestamp, record.topic
    if place != record.partition and topic in names.retries:
        kept = kept_in(headers)
        timestamp = record.timestamp if kept is None else kept.requested_ms
        headers = [each for each in headers if each[0] != HEADER_KEPT]
        topic = names.requests
    return Sent(topic, place, timestamp, record.key, record.value, headers)
