"""The producers that partitions share: started, replaced, fenced and ended, whatever happens meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pointsman.streams import producers
from pointsman.streams import together as module
from pointsman.streams.errors import Expelled, Fenced
from pointsman.streams.shared import Shared
from pointsman.streams.together import PRODUCERS, Together
from tests.unit.streams.together_world import World, handed_in, output, shared, sound, together, turns, world

__all__ = ["together", "world"]


async def test_a_producer_that_failed_is_closed_and_another_of_its_id_takes_its_place(
    world: World, together: Together
) -> None:
    world.fates = ["before"]
    with pytest.raises(KafkaError):
        await together.commit(0, output("0"))
    world.starts_fail = 2
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS or not world.made[0].closed:
            await asyncio.sleep(0.001)
    # First with the same id, which ends what was left open; where that one is stuck, with others of its partitions.
    assert world.ids == [f"g-t-together-{number}" for number in (0, 1, 2, 3, 0, 4, 5)]
    assert world.open() == [f"g-t-together-{number}" for number in (1, 2, 3, 5)]
    await together.commit(0, output("0"))


async def test_one_that_was_fenced_comes_back_after_a_while_only(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(producers.asyncio, "sleep", noted)
    world.fates, world.starts_fail = ["fenced"], 3
    with pytest.raises(Fenced):
        await together.commit(0, output("0"))
    for _ in range(60):
        await sleep(0)
    assert waited == [
        producers.FENCED_S,
        2 * producers.FENCED_S,
        4 * producers.FENCED_S,
        producers.AGAIN_MAX_S,
    ]


async def test_whatever_was_left_open_of_a_partition_is_ended_before_it_is_read(world: World) -> None:
    together = shared((5, 2, 9, 7, 3))
    for number, ids in ((9, ["g-t-9", "g-t-together-9"]), (2, ["g-t-2"])):
        await Shared(together, number, ()).open()
        assert world.order == [
            *(f"start g-t-together-{number}" for number in (2, 3, 5, 7)),
            *(f"fence {each}" for each in ids),
            "read",
        ]
        del world.order[PRODUCERS:]
    await together.end()


async def test_a_start_that_fails_is_tried_again_by_itself(world: World) -> None:
    together = shared()
    world.starts_fail = PRODUCERS + 1
    await asyncio.gather(together.ready(), together.ready())
    assert together._producers.alive == 0
    assert together.alone(0), "nobody waits for it"
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.001)
    assert not together.alone(0)
    assert sound(together)
    await together.end()


async def test_the_end_leaves_no_task_and_no_producer(world: World) -> None:
    before = asyncio.all_tasks()
    together = shared()
    await together.ready()
    world.fates = ["before", "hang"]
    with pytest.raises(KafkaError):
        await together.commit(0, output("0"))
    loop = asyncio.create_task(together.commit(1, output("1")))
    await turns()
    world.steps = 0
    ending = asyncio.create_task(together.end())
    began = asyncio.get_running_loop().time()
    await turns(1)
    ending.cancel()  # whoever it was, the next one waits for the whole of it
    await asyncio.gather(ending, return_exceptions=True)
    await together.end()
    await asyncio.gather(loop, return_exceptions=True)
    assert loop.done()
    await turns()
    assert world.open() == []
    assert asyncio.all_tasks() == before
    assert asyncio.get_running_loop().time() - began < together.deadline_s / 2
    with pytest.raises(Expelled):
        await together.commit(0, output("late"))


async def test_an_id_that_was_started_here_is_not_fenced_here_again(world: World, together: Together) -> None:
    """The producer that takes the place of a failed one would be fenced by its own worker."""
    world.fates = ["before"]
    with pytest.raises(KafkaError):
        await together.commit(0, output("0"))
    await Shared(together, 0, ()).open()
    assert [each for each in world.order if each.startswith("fence")] == ["fence g-t-0"]
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.001)


async def test_one_that_is_alone_and_expelled_says_it_to_all(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ALONE_AFTER", 0)
    committer = Shared(together, 3, ())
    await committer.open()
    world.fates = ["expelled"]
    with pytest.raises(Expelled):
        await committer.commit(output("x"))
    assert world.made[-1].id == "g-t-3"
    await committer.close()
    fenced = len(world.order)
    with pytest.raises(Expelled):
        await Shared(together, 3, ()).open()
    assert len(world.order) == fenced


async def test_a_producer_that_waits_to_be_replaced_is_not_once_the_member_is_expelled(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "AGAIN_S", 0.05)
    world.fates = ["before", "expelled"]
    with pytest.raises(KafkaError):
        await together.commit(0, output("0"))
    with pytest.raises(Expelled):
        await together.commit(1, output("1"))
    await asyncio.wait({asyncio.create_task(asyncio.sleep(0.1))})
    assert len(world.made) == PRODUCERS


async def test_one_loop_that_gives_up_does_not_end_the_start_for_the_others(world: World) -> None:
    world.start_gate = asyncio.Event()
    together = shared()
    waits = [asyncio.create_task(together.ready()) for _ in range(2)]
    await turns()
    waits[0].cancel()
    await turns()
    world.start_gate.set()
    await asyncio.wait_for(waits[1], 5)
    assert len(world.made) == PRODUCERS
    await together.end()


async def test_an_expelled_member_starts_no_producer_and_commits_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = shared()
    monkeypatch.setattr(producers, "FENCED_S", 0.0)
    world.fates = ["expelled"]
    committer = Shared(together, 0, ())
    await committer.open()
    made = len(world.made)
    with pytest.raises(Expelled):
        await committer.commit(output("0"))
    for number in (0, 1):
        with pytest.raises(Expelled):
            await Shared(together, number, ()).open()
        with pytest.raises(Expelled):
            await together.commit(number, output("1"))
    await turns()
    assert len(world.made) == made
    assert world.committed == []
    await together.end()


async def test_while_no_producer_is_left_each_partition_has_its_own_and_is_told_why(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "AGAIN_MAX_S", 0.0)
    world.fates, world.starts_fail = ["before"] * PRODUCERS, 3 * PRODUCERS
    for _ in range(PRODUCERS):
        with pytest.raises(KafkaError, match="before"):
            await together.commit(0, output("x"))
    with pytest.raises(KafkaError, match="no broker"):
        await together.commit(2, output("x"))
    assert together.alone(2)
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.001)
    assert not together.alone(2)


async def test_starts_that_hang_hold_nobody_up_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "START_S", 0.01)
    world.start_gate = asyncio.Event()
    together = shared()
    committer = Shared(together, 0, (TopicPartition("t", 0),))
    await asyncio.wait_for(committer.open(), 5)
    assert world.made[-1].id == "g-t-0"
    await committer.close()
    world.start_gate.set()
    async with asyncio.timeout(10):
        while together._producers.alive < PRODUCERS:
            await asyncio.sleep(0.001)
    await together.end()


async def test_who_waits_for_a_producer_is_told_of_the_expulsion(world: World, together: Together) -> None:
    world.gate = asyncio.Event()
    world.fates = ["expelled", "expelled"]
    tasks = await handed_in(together, *map(output, "012"))
    assert len(together._waiting) == 1
    world.gate.set()
    _, waits = await asyncio.wait(tasks, timeout=5)
    assert not waits
    assert [type(task.exception()) for task in tasks] == [Expelled] * 3
