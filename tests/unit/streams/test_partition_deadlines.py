"""How long a partition waits for the broker: as it was set, and no longer; and that it waits rather than goes on."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from pointsman.streams import partition
from pointsman.streams.output import Committed, Output
from pointsman.streams.settings import Settings
from tests.builders import Score, request
from tests.support.producers import producer
from tests.unit.streams.decisions.decision_world import FakeCommitter
from tests.unit.streams.decisions.decision_world import World as Deciding
from tests.unit.streams.test_lane import ONE, TWO, World

DEADLINE_S = 0.2
GENEROUS_S = 5.0
"""Far less than a wait that forgot the deadline, far more than a busy machine takes."""


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is the wait for the broker."""
    monkeypatch.setattr(partition, "BACKOFF_S", (0.0,))


def asked(world: Deciding, count: int) -> Deciding:
    for n in range(count):
        world.broker.produce(msgspec.json.encode(request(f"r{n}")), b"r%d" % n)
    return world


@pytest.mark.parametrize(("fate", "lost"), [("hang", True), ("hang after", False)])
async def test_a_commit_is_given_up_at_the_deadline_and_done_again_if_it_is_lost(
    fate: str, lost: bool
) -> None:
    world = asked(Deciding(scorer=Score(), deadline_s=DEADLINE_S), 3)
    world.broker.fates.append(fate)
    began: list[float] = []
    given_up: list[tuple[float, int]] = []

    class Timed(FakeCommitter):
        async def commit(self, output: Output) -> None:
            began.append(time.monotonic())
            await super().commit(output)

        async def close(self) -> None:
            given_up.append((time.monotonic(), len(world.broker.outcomes())))
            await super().close()

    world.loop._committer = lambda: Timed(world.broker)
    world.run()
    await world.until(lambda: given_up, "the commit to be given up")
    at, committed = given_up[0]
    assert DEADLINE_S <= at - began[0] < GENEROUS_S
    assert committed == (0 if lost else 3)
    await world.caught_up()
    await world.stop()
    assert [each.decision_id for each in world.broker.outcomes()] == ["r0", "r1", "r2"]


async def test_every_partition_of_a_lane_has_the_deadline_that_is_set() -> None:
    world = World(transaction_deadline_ms=1_700)
    await world.own(ONE, TWO)
    assert [loop._deadline_s for loop in world.lane.loops.values()] == [1.7, 1.7]
    await world.lane.release()


async def test_the_broker_is_told_to_end_a_transaction_at_twice_the_deadline() -> None:
    made = producer(settings=Settings(transaction_deadline_ms=1_700))
    await made.close()
    assert made.transactions.transaction_timeout_ms == 3_400
    assert made.client._txn_manager is made.transactions


async def test_nothing_is_decided_while_no_producer_can_be_opened() -> None:
    world = asked(Deciding(scorer=Score()), 3)
    world.broker.fates.extend(["open"] * 9)
    tries = [0]

    class Counted(FakeCommitter):
        async def open(self) -> Committed:
            tries[0] += 1
            return await super().open()

    world.loop._committer = lambda: Counted(world.broker)
    world.run()
    async with asyncio.timeout(GENEROUS_S):
        while tries[0] < 9:
            assert (world.source.begun, world.broker.transactions) == ([], []), "not read, not decided"
            await asyncio.sleep(0)
    await world.caught_up()
    await world.stop()
    assert len(world.broker.outcomes()) == 3
