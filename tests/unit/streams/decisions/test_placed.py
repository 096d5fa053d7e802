"""A batch is decided only where its records belong by the known number of partitions, or the broker says that it is so."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams.decisions.placed import KEYS_MAX, PlacedWork
from pointsman.streams.errors import TopicProblem
from pointsman.streams.output import Output, Record
from pointsman.streams.partitioner import by_murmur2

TP = TopicPartition("decision-requests", 1)
HERE = [key for n in range(1_000) if by_murmur2(key := f"u{n}".encode(), 4) == 1]
ELSEWHERE = [key for n in range(100) if by_murmur2(key := f"u{n}".encode(), 4) != 1]


class Inner:
    """Counts what it was given."""

    def __init__(self) -> None:
        self.seen = 0

    async def process(self, batch: Any, *, final: bool) -> Output:
        self.seen += sum(map(len, batch.values()))
        return Output()


def batch(*keys: bytes | None) -> dict[TopicPartition, list[Record]]:
    return {TP: [Record(TP.topic, 1, n, 0, 0, key, b"") for n, key in enumerate(keys)]}


@pytest.mark.parametrize(
    ("keys", "asks"),
    [
        (HERE[:3], False),
        ([*HERE[:3], None], False),
        ([*HERE[:3], ELSEWHERE[0]], True),
        (HERE[: KEYS_MAX + 1], True),
        ([], False),
    ],
)
async def test_a_batch_with_a_record_that_may_have_come_by_growth_is_not_decided_before_the_broker_was_asked(
    keys: list[bytes | None], asks: bool
) -> None:
    async def grown() -> None:
        raise TopicProblem("grown")

    async def as_it_was() -> None:
        pass

    inner: Any = Inner()
    if asks:
        with pytest.raises(TopicProblem):
            await PlacedWork(inner, 1, 4, grown).process(batch(*keys), final=False)
        assert inner.seen == 0
        await PlacedWork(inner, 1, 4, as_it_was).process(batch(*keys), final=False)
    else:
        await PlacedWork(inner, 1, 4, grown).process(batch(*keys), final=False)
    assert inner.seen == len(keys)
