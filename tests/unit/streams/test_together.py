"""Transactions that partitions share: who is in which, and that each loop is told what became of its batch."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from pointsman.streams import together as module
from pointsman.streams.settings import Settings
from pointsman.streams.shared import Shared
from pointsman.streams.together import GATHER_S, OUTPUTS_MAX, PRODUCERS, Together
from tests.unit.streams.together_world import World, handed_in, output, shared, together, turns, world

__all__ = ["together", "world"]

LONG_S = 30.0


async def test_batches_under_way_together_are_committed_together(world: World, together: Together) -> None:
    for number in (0, 1, 2):
        together.expect(number, [])
    first = [asyncio.create_task(together.commit(number, output(str(number)))) for number in (0, 1)]
    await turns()
    assert world.committed == [], "the third is under way"
    await together.commit(2, output("2"))
    await asyncio.gather(*first)
    assert world.committed == [["0", "1", "2"]]


async def test_nobody_waits_longer_than_a_moment_for_the_others(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)
    together.expect(0, [])
    together.expect(1, [])
    await together.commit(0, output("0"))
    await together.commit(1, output("1"))
    assert world.committed == [["0"], ["1"]]
    assert Settings().commit_interval_ms / 1000 > GATHER_S


async def test_one_that_nobody_else_is_expected_in_goes_at_once(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", LONG_S)
    together.expect(0, [])
    await asyncio.wait_for(together.commit(0, output("0")), 5)
    await asyncio.wait_for(together.commit(1, output("unannounced")), 5)
    together.expect(0, [])
    together.expect(1, [])
    committing = asyncio.create_task(together.commit(0, output("1")))
    await turns()
    together.leave(1)  # its batch failed
    await asyncio.wait_for(committing, 5)
    assert world.committed == [["0"], ["unannounced"], ["1"]]


async def test_while_one_is_on_its_way_another_gathers_and_the_rest_waits(
    world: World, together: Together
) -> None:
    world.gate = asyncio.Event()
    tasks = await handed_in(together, *map(output, "abcd"))
    assert world.committed == []
    assert sum(producer.begun for producer in world.made) == 2
    world.gate.set()
    await asyncio.gather(*tasks)
    assert world.committed == [["a"], ["b"], ["c", "d"]]


async def test_a_large_batch_waits_for_no_turn_and_takes_the_small_along(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MESSAGES_ENOUGH", 2)
    world.gate = asyncio.Event()
    many = (("a", 1), ("b", 1), ("c", 1), ("large", 2), ("d", 1), ("e", 1), ("last", 2))
    tasks = await handed_in(together, *(output(text, messages=messages) for text, messages in many))
    assert sum(producer.begun for producer in world.made) == len(world.made) == PRODUCERS
    world.gate.set()
    await asyncio.gather(*tasks)
    assert world.committed == [["a"], ["b"], ["c", "large"], ["d", "e", "last"]]


async def test_a_small_batch_waits_for_small_ones_only(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MESSAGES_ENOUGH", 2)
    world.gate = asyncio.Event()
    large = [output(text, messages=messages) for text, messages in (("large", 2), ("larger", 3))]
    tasks = await handed_in(together, *large, *map(output, "abc"))
    assert [each.output.metadata for each in together._waiting] == ["c"]
    world.gate.set()
    await asyncio.gather(*tasks)
    assert world.committed == [["large"], ["larger"], ["a"], ["b"], ["c"]]


async def test_a_transaction_is_bounded(world: World) -> None:
    numbers = range(2 * OUTPUTS_MAX + 1)
    together = shared(numbers)
    await together.ready()
    for number in numbers:
        together.expect(number, [])
    await asyncio.gather(*(together.commit(number, output(str(number))) for number in numbers))
    assert sorted(map(len, world.committed)) == [1, OUTPUTS_MAX, OUTPUTS_MAX]
    await together.end()


async def test_the_coordinator_is_told_ahead_what_the_last_output_wrote(
    world: World, together: Together
) -> None:
    committer = Shared(together, 0, (TopicPartition("t", 0),))
    assert (await committer.open()).positions == {TopicPartition("t", 0): 5}
    await committer.begin()
    await committer.commit(output("0", "elsewhere"))
    await committer.begin()
    assert [each.announced for each in world.made if each.begun] == [[TopicPartition("elsewhere", 0)]]
    await committer.close()


async def test_one_that_was_begun_for_nothing_is_ended_and_not_left_to_time_out(
    world: World, together: Together
) -> None:
    together.expect(0, [])
    together.expect(1, [])
    together.leave(0)
    assert any(producer.begun for producer in world.made)
    together.leave(1)
    await turns()
    assert not any(producer.begun for producer in world.made)
    assert world.committed == [[]]


async def test_who_has_enough_for_a_transaction_waits_for_nobody(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", LONG_S)
    monkeypatch.setattr(module, "MESSAGES_ENOUGH", 2)
    for number in (0, 1, 2):
        together.expect(number, ())
    small = asyncio.create_task(together.commit(0, output("small")))
    await turns()
    assert world.committed == []
    await asyncio.wait_for(together.commit(1, output("enough")), 5)
    await small
    assert world.committed == [["small", "enough"]]
    together.leave(2)
