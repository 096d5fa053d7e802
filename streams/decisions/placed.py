"""`PlacedWork`: nothing is decided of records that may lie here only because topics have grown since the lane began.

The lane looks for growth each second; what lies between two looks is caught here. Records that the partition would have
by the known number of partitions need no look, and are told by their keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka import TopicPartition

from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.partition import Work
from pointsman.streams.partitioner import by_murmur2

KEYS_MAX: Final = 100
"""To hash so many takes as long as to ask the broker: a millisecond."""


class PlacedWork:
    """Another work, which gets a batch only when its records belong here."""

    def __init__(
        self, work: Work, number: int, partitions: int, verify: Callable[[], Awaitable[None]]
    ) -> None:
        """``verify``: asks the broker, and raises where topics are not as they were."""
        self._work = work
        self._number = number
        self._partitions = partitions
        self._verify = verify

    async def restore(self, committed: Committed) -> None:
        """As the other."""
        await self._work.restore(committed)

    def due(self) -> float | None:
        """As the other."""
        return self._work.due()

    async def close(self) -> None:
        """As the other."""
        await self._work.close()

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:
        """The other's output. Producers with another partitioner than Kafka's own cost a question a batch."""
        keys = {record.key for records in batch.values() for record in records if record.key is not None}
        if len(keys) > KEYS_MAX or any(by_murmur2(key, self._partitions) != self._number for key in keys):
            await self._verify()
        return await self._work.process(batch, final=final)
