"""What the loops of an assignment commit with: made with it, in the name of its member, and ended with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.streams.membership import Member
from tests.unit.streams.test_lane import ONE, TWO, World

DELAY = TopicPartition("u", 3)


class Shared:
    """Notes how it was made, and takes its time to end."""

    def __init__(self, member: Member, numbers: list[int]) -> None:
        self.member, self.numbers = member, numbers
        self.go = asyncio.Event()
        self.go.set()
        self.ended = False

    async def end(self) -> None:
        await self.go.wait()
        self.ended = True


def shares(**settings: Any) -> tuple[World, list[Shared]]:
    made: list[Shared] = []

    def share(_lane: Any, member: Member, numbers: list[int]) -> Any:
        made.append(Shared(member, numbers))
        return made[-1]

    world = World(lane_options={"share": share, "delays_s": {"u": 1.0}}, **settings)
    world.consumer._coordinator.member_id, world.consumer._coordinator.generation = "me", 4
    return world, made


async def test_each_assignment_has_transactions_of_its_own_which_end_with_it() -> None:
    world, made = shares()
    await world.own(ONE, TWO, DELAY)
    assert [(each.member, each.numbers) for each in made] == [(Member("me", 4), [1, 2])], "those that are led"
    assert world.lane.together is made[0]
    await world.lane.release()
    assert made[0].ended
    assert world.lane.together is None
    world.consumer._coordinator.generation = 5
    await world.own(TWO)
    assert (made[1].member, made[1].numbers) == (Member("me", 5), [2])
    await world.lane.release()


async def test_without_partitions_there_is_nothing_to_share() -> None:
    world, made = shares()
    await world.own()
    assert made == []
    await world.lane.release()


async def test_whoever_releases_waits_for_the_end_even_where_another_was_cancelled_meanwhile() -> None:
    world, made = shares()
    await world.own(ONE)
    made[0].go.clear()
    first = asyncio.create_task(world.lane.release())
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(world.lane.release())
    await asyncio.sleep(0.01)
    assert not second.done()
    made[0].go.set()
    await second
    assert made[0].ended


async def test_who_shares_may_wait_for_a_transaction_as_long_as_one_may_take() -> None:
    world, _ = shares(transaction_deadline_ms=1_700)
    await world.own(ONE)
    assert [loop._deadline_s for loop in world.lane.loops.values()] == [pytest.approx(2.1 * 1.7)]
    await world.lane.release()
