"""Nothing of a batch is left to the garbage collector: its memory comes back when it is committed."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.builders import Score, valid
from tests.unit.streams.decisions.decision_world import World
from tests.unit.streams.decisions.test_work import process


@pytest.fixture
def kept() -> Iterator[list[object]]:
    """What a collection finds while this is open: nothing else of the process, and never by itself."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_committed_batch_leaves_no_ring_of_objects(kept: list[object]) -> None:
    world = World(scorer=Score())
    world.flag(50, 1)
    await process(world, valid("first"))
    gc.collect()
    kept.clear()
    for n in range(5):
        await process(world, *(valid(f"r{n}-{m}", 1 + 3 * n + m) for m in range(3)))
    world.broker.transactions.clear()
    world.broker.committed.clear()
    gc.collect()
    assert [each for each in kept if type(each).__module__.startswith("pointsman")] == []
    assert not any(isinstance(each, tuple) and b"r0-0" in each for each in kept), "a message"
