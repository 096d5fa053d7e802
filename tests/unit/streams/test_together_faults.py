"""Transactions that partitions share, when something fails: nothing is lost, told wrongly, left behind or held up."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaError

from pointsman.streams import producers
from pointsman.streams import together as module
from pointsman.streams.errors import Fenced
from pointsman.streams.shared import Shared
from pointsman.streams.together import OUTPUTS_MAX, PRODUCERS, Together
from tests.unit.streams.together_world import World, handed_in, output, shared, together, turns, world

__all__ = ["together", "world"]


@pytest.mark.parametrize("fate", ["before", "after", "fenced"])
async def test_all_in_a_transaction_that_failed_are_told_and_the_others_go_on(
    world: World, together: Together, fate: str
) -> None:
    world.fates = [fate]
    together.expect(0, [])
    together.expect(1, [])
    told = await asyncio.gather(
        *(together.commit(number, output(str(number))) for number in (0, 1)), return_exceptions=True
    )
    assert [type(each) for each in told] == [Fenced if fate == "fenced" else KafkaError] * 2
    await together.commit(2, output("2"))
    assert world.committed[-1] == ["2"]


async def test_one_that_died_while_it_gathered_loses_nothing(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "AGAIN_S", 0.3)  # the other producer takes it over at once
    together.expect(0, [])
    together.expect(1, [])
    committing = asyncio.create_task(together.commit(0, output("0")))
    await turns(1)
    gathering = next(each for each in world.made if each.begun)
    gathering.broken = KafkaError("fenced meanwhile")
    together.expect(2, [])
    await asyncio.wait_for(committing, 5)
    assert world.committed == [["0"]]
    assert together._producers.alive == PRODUCERS - 1
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.01)
    assert gathering.closed


async def test_who_waits_for_a_turn_has_it_when_another_fails(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "AGAIN_S", 0.3)  # no producer comes in the failed ones' place meanwhile
    world.gate, world.fates = asyncio.Event(), ["before", "before"]
    tasks = await handed_in(together, *map(output, "012"))
    assert len(together._waiting) == 1
    world.gate.set()
    await asyncio.wait_for(tasks[2], 5)
    assert world.committed == [["2"]]
    assert together._producers.alive == PRODUCERS - 2
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.01)


async def test_one_that_died_while_it_was_idle_is_passed_over(world: World, together: Together) -> None:
    world.made[0].broken = KafkaError("expired")
    together.expect(0, [])
    await asyncio.wait_for(together.commit(0, output("0")), 5)
    await turns()
    assert world.committed == [["0"]]
    assert world.made[0].closed


async def test_what_nobody_waits_for_any_more_is_not_committed_afterwards(
    world: World, together: Together
) -> None:
    """Its partition is read again, from before it."""
    world.gate = asyncio.Event()
    on_its_way = [asyncio.create_task(together.commit(number, output("way"))) for number in (0, 1)]
    await turns()
    waits = asyncio.create_task(together.commit(2, output("gathers")))
    await turns()
    for task in (waits, on_its_way[0]):
        task.cancel()
    told = await asyncio.gather(waits, *on_its_way, return_exceptions=True)
    assert [type(each) for each in told] == [asyncio.CancelledError, asyncio.CancelledError, TimeoutError]
    world.gate.set()
    await turns()
    assert world.committed == []
    await together.commit(3, output("3"))
    assert world.committed == [["3"]]


async def test_one_that_gathers_goes_without_what_was_withdrawn(world: World, together: Together) -> None:
    for number in (0, 1, 2):
        together.expect(number, [])
    tasks = [asyncio.create_task(together.commit(number, output(str(number)))) for number in (0, 1)]
    await turns()
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    await together.commit(2, output("2"))
    await tasks[1]
    assert world.committed == [["1", "2"]]


async def test_a_partition_that_fails_again_has_transactions_of_its_own_until_it_succeeds(
    world: World, together: Together
) -> None:
    world.fates = ["before", "before", "before"]
    for _ in range(3):
        committer = Shared(together, 3, ())
        await committer.open()
        await committer.begin()
        with pytest.raises(KafkaError):
            await committer.commit(output("x"))
        await committer.close()
    own = [each for each in world.made if each.id == "g-t-3"]
    assert (world.committed, [each.closed for each in own]) == ([], [True])
    committer = Shared(together, 3, ())
    await committer.open()
    await committer.begin()
    assert world.made[-1].begun, "it is told before its messages come"
    await committer.commit(output("y"))
    assert (world.made[-1].id, world.made[-1].closed) == ("g-t-3", True)
    count = len(world.made)
    await committer.commit(output("z"))
    assert world.committed == [["y"], ["z"]]
    assert len(world.made) == count
    await committer.close()


async def test_nothing_is_begun_for_what_nobody_waits_for(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MESSAGES_ENOUGH", 1)
    world.gate = asyncio.Event()
    *busy, waits = await handed_in(together, *(output("busy") for _ in range(PRODUCERS)), output("waits"))
    together._waiting[0].done.cancel()  # its loop has not been told yet
    together._producers.free.append(world.made[0])
    together._load()
    assert together._gathering is None
    together._producers.free.clear()
    world.gate.set()
    await asyncio.gather(*busy, waits, return_exceptions=True)


async def test_failures_count_one_after_the_other_only(world: World, together: Together) -> None:
    for fates in (["before", "ok"], ["before"]):
        for fate in fates:
            world.fates = [fate]
            await asyncio.gather(together.commit(3, output("x")), return_exceptions=True)
    assert not together.alone(3)
    world.fates = ["before"]
    await asyncio.gather(together.commit(3, output("x")), return_exceptions=True)
    assert together.alone(3)
    assert together.succeeded(3)
    assert not together.alone(3)


async def test_a_loop_that_ends_is_not_waited_for(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 30.0)
    committers = [Shared(together, number, ()) for number in (0, 1)]
    for committer in committers:
        await committer.begin()
    committing = asyncio.create_task(committers[0].commit(output("0")))
    await turns()
    await committers[1].close()
    await asyncio.wait_for(committing, 5)
    assert world.committed == [["0"]]


@pytest.mark.parametrize("fate", ["hang", "hang after"])
async def test_a_transaction_that_hangs_is_given_up_after_its_deadline(
    world: World, together: Together, fate: str
) -> None:
    together.deadline_s = 0.05
    world.fates = [fate]
    committing = asyncio.create_task(together.commit(0, output("0")))
    await asyncio.wait({committing}, timeout=5)
    assert committing.done()
    assert isinstance(committing.exception(), TimeoutError)
    assert world.committed == ([["0"]] if fate == "hang after" else [])
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.001)


async def test_who_waited_longest_does_not_end_what_holds_the_others_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = shared()
    together.deadline_s = 0.2
    await together.ready()
    world.gate = asyncio.Event()
    tasks = await handed_in(together, output("first"), output("first"))
    waits = [asyncio.create_task(together.commit(2, output("waited")))]
    await asyncio.sleep(0.15)
    first, world.gate = world.gate, asyncio.Event()
    first.set()
    await asyncio.gather(*tasks)
    waits.append(asyncio.create_task(together.commit(3, output("fresh"))))
    await asyncio.sleep(0.1)
    assert not any(each.done() for each in waits)
    world.gate.set()
    await asyncio.gather(*waits)
    assert sorted(text for each in world.committed for text in each) == ["first", "first", "fresh", "waited"]
    await together.end()


async def test_one_that_is_given_up_before_its_first_step_is_told_to_all(world: World) -> None:
    numbers = range(OUTPUTS_MAX + 2)
    together = shared(numbers)
    await together.ready()
    world.gate = asyncio.Event()
    busy = await handed_in(together, output("busy"), output("busy"))
    full = [asyncio.create_task(together.commit(number, output("full"))) for number in numbers[2:]]
    await turns()
    world.gate.set()
    joint = None
    async with asyncio.timeout(10):
        while joint is None:
            await asyncio.sleep(0)
            joint = next(
                (each for each in together._under_way.values() if len(each.entries) == OUTPUTS_MAX), None
            )
    assert joint.task is not None
    joint.task.cancel()
    told = await asyncio.wait_for(asyncio.gather(*full, return_exceptions=True), 5)
    assert [type(each) for each in told] == [TimeoutError] * OUTPUTS_MAX
    await asyncio.gather(*busy)
    await together.end()


async def test_a_success_of_others_does_not_end_a_partitions_failures(
    world: World, together: Together
) -> None:
    for fate, number in (("before", 3), ("ok", 0), ("before", 3)):
        world.fates = [fate]
        await asyncio.gather(together.commit(number, output("x")), return_exceptions=True)
    assert together.alone(3)
    assert not together.alone(0)
