"""`PlacedWork`: nothing is decided of units that may lie here only because topics have grown since the lane began.

The lane looks for growth each second; what lies between two looks is caught here, before a batch is committed. Units that
the partition would have by the known number of partitions need no look, and requests without a unit have no state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka import TopicPartition

from pointsman.streams.decisions.work import DecisionWork
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.partitioner import by_murmur2

UNITS_MAX: Final = 100
"""To hash so many takes as long as to ask the broker: a millisecond."""


class PlacedWork:
    """Another work, whose batch counts only if its units belong here."""

    def __init__(
        self, work: DecisionWork, number: int, partitions: int, verify: Callable[[], Awaitable[None]]
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
        output = await self._work.process(batch, final=final)
        units = self._work.units if output else ()
        if len(units) > UNITS_MAX or any(self._is_foreign(unit) for unit in units):
            await self._verify()
        return output

    def _is_foreign(self, unit: str) -> bool:
        return by_murmur2(unit.encode(), self._partitions) != self._number
