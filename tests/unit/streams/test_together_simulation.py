"""Loops and transactions that they share, whatever fails: each batch is committed once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from aiokafka.errors import KafkaError

from pointsman.streams import producers
from pointsman.streams import together as module
from pointsman.streams.errors import Fenced
from pointsman.streams.shared import Shared
from pointsman.streams.together import PRODUCERS
from tests.unit.streams.together_world import World, output, shared, sound, turns, world

__all__ = ["world"]

FATES = ("ok", "ok", "ok", "before", "after", "hang", "hang after", "fenced")


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_fails_each_batch_is_committed_once_and_never_after_its_loop_was_told(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Loops as `PartitionLoop` is: one batch at a time, given up after a while, begun anew from what is committed."""
    chance = random.Random(seed)
    monkeypatch.setattr(producers, "FENCED_S", 0.0)
    monkeypatch.setattr(module, "GATHER_S", 0.0005)
    monkeypatch.setattr(module, "MESSAGES_ENOUGH", 3)
    monkeypatch.setattr(module, "ALONE_AFTER", 10**9)
    world.steps = chance.randint(0, 4)
    world.fates = [chance.choice(FATES) for _ in range(40)]
    many = 5 if seed % 2 else 24
    together = shared(range(many))
    await together.ready()

    def is_committed(text: str) -> bool:
        return any(text in each for each in world.committed)

    async def loop(number: int) -> None:
        position = 0
        while position < 12:
            text = f"{number}:{position}"
            committer = Shared(together, number, ())
            try:
                if chance.random() < 0.7:
                    await committer.begin()
                for _ in range(chance.randint(0, 5)):
                    await asyncio.sleep(0)
                if chance.random() < 0.05:
                    world.starts_fail += 1
                if chance.random() < 0.05:
                    chance.choice(world.made).broken = KafkaError("died")
                async with asyncio.timeout(chance.choice([0.0, 0.002, 0.01, 0.01])):
                    await committer.commit(output(text, messages=chance.choice([1, 1, 3])))
                position += 1
            except (KafkaError, Fenced, TimeoutError):
                told = is_committed(text)
                await committer.close()
                await turns(chance.randint(0, 30))
                assert is_committed(text) is told, "committed after its loop was told that it failed"
                position += told

    async with asyncio.timeout(30):
        await asyncio.gather(*map(loop, range(many)))
    counts = Counter(text for each in world.committed for text in each)
    assert counts == {f"{number}:{position}": 1 for number in range(many) for position in range(12)}
    async with asyncio.timeout(10):
        while together._producers.alive != PRODUCERS or len(together._producers._open) != PRODUCERS:
            await asyncio.sleep(0.001)
    await turns()
    assert sound(together)
    await together.end()
    assert world.open() == []
