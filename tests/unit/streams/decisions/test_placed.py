"""A batch is decided only where its records belong by the known number of partitions, or the broker says that it is so."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams.decisions.placed import UNITS_MAX, PlacedWork
from pointsman.streams.errors import TopicProblem
from pointsman.streams.output import Output, Record
from pointsman.streams.partitioner import by_murmur2

TP = TopicPartition("decision-requests", 1)
HERE = [unit for n in range(1_000) if by_murmur2((unit := f"u{n}").encode(), 4) == 1]
ELSEWHERE = [unit for n in range(100) if by_murmur2((unit := f"u{n}").encode(), 4) != 1]
BATCH = {TP: [Record(TP.topic, 1, 0, 0, 0, b"u", b"")]}


class Inner:
    """Has looked at the state of units."""

    def __init__(self, units: list[str]) -> None:
        self.units = units

    async def process(self, batch: Any, *, final: bool) -> Output:
        return Output(positions={TP: 1})


@pytest.mark.parametrize(
    ("units", "asks"),
    [
        (HERE[:3], False),
        ([*HERE[:3], ELSEWHERE[0]], True),
        (HERE[: UNITS_MAX + 1], True),
        ([], False),
    ],
)
async def test_a_batch_with_a_unit_that_may_have_come_by_growth_counts_only_once_the_broker_was_asked(
    units: list[str], asks: bool
) -> None:
    async def grown() -> None:
        raise TopicProblem("grown")

    async def as_it_was() -> None:
        pass

    inner: Any = Inner(units)
    if asks:
        with pytest.raises(TopicProblem):
            await PlacedWork(inner, 1, 4, grown).process(BATCH, final=False)
        assert await PlacedWork(inner, 1, 4, as_it_was).process(BATCH, final=False)
    else:
        assert await PlacedWork(inner, 1, 4, grown).process(BATCH, final=False)
