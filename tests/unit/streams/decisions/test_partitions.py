"""What a partition has of its own: its sequence of the even split, and its place in what it writes."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import msgspec
import pytest
from aiokafka import TopicPartition

from pointsman.models.split import evenly
from pointsman.schemas.outcome import Outcome
from pointsman.streams.decisions.work import DecisionWork
from pointsman.streams.output import Committed
from tests.builders import SEED, Score, valid
from tests.unit.streams.decisions.decision_world import NAMES, World


@pytest.mark.parametrize("number", [0, 3, 17])
async def test_requests_without_a_unit_are_split_by_the_sequence_of_their_partition(number: int) -> None:
    async def remembers_nothing(*_: object) -> None:
        pass

    world = World(scorer=Score())
    world.flag(50, 1)
    tp = TopicPartition(NAMES.requests, number)
    work = DecisionWork(tp, replace(world.around(), restore=remembers_nothing), lambda: None)
    await work.restore(Committed({tp: 0}, ""))
    records = [msgspec.structs.replace(valid(f"r{n}", n), partition=number) for n in range(20)]
    output = await work.process({tp: records}, final=False)
    outcomes = [
        msgspec.json.decode(value or b"", type=Outcome)
        for _, value, _ in output.messages[NAMES.outcomes, number]
    ]
    assert [each.arm == "candidate" for each in outcomes] == list(islice(evenly(SEED, number, 0, 50), 20))
    assert {each.place.partition for each in outcomes} == {number}
