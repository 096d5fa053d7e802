"""A commit whose answer was lost: told by its token from one that did not come about, and from another owner's."""

from __future__ import annotations

import asyncio

import pytest

from pointsman.streams.output import Committed
from pointsman.streams.state.partition import PartitionState, StateDraft
from tests.builders import Score, valid
from tests.unit.streams.decisions.decision_world import NAMES, TP, World
from tests.unit.streams.decisions.test_work import outcomes, process


async def refused() -> None:
    raise OSError("no broker")


async def test_a_commit_whose_answer_was_lost_is_known_by_its_token_alone() -> None:
    world = World(scorer=Score())
    await process(world, valid("a"))
    await asyncio.sleep(0.002)
    lost = await process(world, final=True, commit=False)
    assert lost
    await world.work.restore(Committed({TP: world.broker.position}, world.broker.metadata))
    await process(world, final=True)
    assert sum(arm.decisions for arm in world.broker.arms()) == 1, "it was not committed: say it again"
    await process(world, valid("b", 1))
    kept = await process(world, final=True, commit=False)
    world.broker.apply(kept)
    await world.work.restore(Committed({TP: world.broker.position}, world.broker.metadata))
    await process(world, final=True)
    assert sum(arm.decisions for arm in world.broker.arms()) == 2, "it was committed: do not say it again"


async def test_a_commit_whose_answer_was_lost_counts_once_though_its_state_is_not_read_back_at_first() -> (
    None
):
    world = World(scorer=Score())
    await process(world, valid("a"))
    world.broker.apply(await process(world, valid("b", 1), commit=False))
    committed = Committed({TP: world.broker.position}, world.broker.metadata)
    world.state_hook = refused
    for _ in range(2):
        with pytest.raises(OSError, match="no broker"):
            await world.work.restore(committed)
    world.state_hook = None
    await world.work.restore(committed)
    await process(world, final=True)
    assert sum(arm.decisions for arm in world.broker.arms()) == 2


async def test_what_a_late_answer_tells_is_not_written_behind_what_was_read_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer came, with the end of what was written, but nobody waited for it any more."""
    ends: list[int | None] = []
    keep = PartitionState.keep

    def kept(state: PartitionState, draft: StateDraft, end: int | None) -> None:
        ends.append(end)
        keep(state, draft, end)

    monkeypatch.setattr(PartitionState, "keep", kept)
    world = World(scorer=Score())
    await process(world, valid("a"))
    late = await process(world, valid("b", 1), commit=False)
    world.broker.apply(late)
    late.ends[NAMES.state, 0] = 7
    await world.work.restore(Committed({TP: world.broker.position}, world.broker.metadata))
    assert ends == [None, None]


async def test_the_same_batch_committed_by_another_owner_counts_there_and_not_here() -> None:
    world = World(scorer=Score())
    await process(world, valid("a"))
    mine = await process(world, valid("b", 1), commit=False)
    other = World(scorer=Score())
    other.broker = world.broker
    other.start()
    await process(other, valid("b", 1))
    assert mine
    await world.work.restore(Committed({TP: world.broker.position}, world.broker.metadata))
    assert sum(arm.decisions for arm in world.work._tally.arms.values()) == 1
    assert outcomes(await process(world, valid("b", 2))) == [], "its ids were read back"
