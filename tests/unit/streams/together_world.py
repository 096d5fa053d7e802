"""Producers, fences and offsets as `Together` sees them, for its tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pointsman.streams import commit, producers
from pointsman.streams import shared as shared_module
from pointsman.streams import together as module
from pointsman.streams.errors import Expelled, Fenced
from pointsman.streams.membership import Member
from pointsman.streams.output import Committed, Output
from pointsman.streams.settings import Settings
from pointsman.streams.together import Together


class World:
    """Producers as `Together` sees them; each transaction takes the next fate.

    ``before``, ``after``: fails before, or after it was committed; ``hang``, ``hang after``: never answers; ``fenced``.
    """

    def __init__(self) -> None:
        self.fates: list[str] = []
        self.steps = 3
        self.committed: list[list[str]] = []
        """What each transaction held, by the outputs' metadata."""
        self.made: list[FakeProducer] = []
        self.starts_fail = 0
        self.start_gate: asyncio.Event | None = None
        """Where set, producers that the partitions share wait for it before they start."""
        self.order: list[str] = []
        """Producers started, ids fenced, offsets read."""
        self.gate: asyncio.Event | None = None
        """Where set, a transaction waits for it."""

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.made]

    def open(self) -> list[str]:
        return sorted(each.id for each in self.made if not each.closed)


class FakeProducer:
    world: World

    def __init__(self, *, transactional_id: str, member: Member, **_options: Any) -> None:
        assert member == Member("m", 7)
        self.id = transactional_id
        self.world.made.append(self)
        self.client: Any = self
        self.begun = self.closed = False
        self.announced: list[TopicPartition] = []
        self.broken: Exception | None = None

    async def start(self) -> None:
        await turns(2)
        if self.world.start_gate is not None and "together" in self.id:
            await self.world.start_gate.wait()
        if self.world.starts_fail:
            self.world.starts_fail -= 1
            raise KafkaError("no broker")
        self.world.order.append(f"start {self.id}")

    def announce(self, partitions: Iterable[TopicPartition]) -> None:
        if self.broken is not None:
            raise self.broken
        self.begun = True
        self.announced.extend(partitions)

    async def commit(self, outputs: Sequence[Output]) -> None:
        world = self.world
        assert not self.closed, "a producer that was closed is not used"
        fate = world.fates.pop(0) if world.fates else "ok"
        for _ in range(world.steps):
            await asyncio.sleep(0)
        if world.gate is not None:
            await world.gate.wait()
        if fate == "fenced":
            raise Fenced("another owner")
        if fate == "expelled":
            raise Expelled("the group has gone on")
        if fate in ("ok", "after", "hang after"):
            world.committed.append([output.metadata for output in outputs])
        if fate in ("before", "after"):
            raise KafkaError(fate)
        if fate.startswith("hang"):
            await asyncio.Event().wait()
        self.begun, self.announced = False, []

    async def close(self) -> None:
        try:
            await turns(2)
        finally:
            self.closed = True  # a close goes on where its caller is cancelled


class Admin:
    _client = None


def sound(together: Together) -> bool:
    """Nothing is left of what was under way, and its producers are there again."""
    pool = together._producers
    assert len(pool._open) == pool.alive
    ids = [*pool._ids, *pool._open.values()]
    assert sorted(ids) == sorted({*ids}), "an id has one holder"
    return (
        not together._under_way
        and together._open == {each for each in (together._gathering,) if each is not None}
        and not together._waiting
        and pool.alive == len(pool.free) + (together._gathering is not None)
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    FakeProducer.world = made

    async def fence(_client: Any, ids: Iterable[str], timeout_ms: int) -> None:
        assert timeout_ms == 2 * Settings().transaction_deadline_ms
        await turns(3)
        made.order.extend(f"fence {each}" for each in ids)

    async def stable(_admin: Any, _group: str, partitions: Sequence[TopicPartition]) -> Committed:
        made.order.append("read")
        return Committed(dict.fromkeys(partitions, 5))

    monkeypatch.setattr(module, "Producer", FakeProducer)
    monkeypatch.setattr(module, "fence", fence)
    for each in (shared_module, commit):
        monkeypatch.setattr(each, "stable", stable)
    monkeypatch.setattr(producers, "AGAIN_S", 0.0)
    return made


def shared(numbers: Sequence[int] = range(6)) -> Together:
    return Together(
        servers="127.0.0.1:1",
        group="g",
        prefix="g-t",
        settings=Settings(),
        admin=Admin,  # type: ignore[arg-type]
        member=Member("m", 7),
        numbers=numbers,
    )


@pytest.fixture
async def together(world: World) -> AsyncIterator[Together]:
    made = shared()
    await made.ready()
    yield made
    await turns()
    assert sound(made)
    await made.end()
    assert made._tasks == set()


def output(text: str, topic: str = "out", messages: int = 1) -> Output:
    made = Output(metadata=text)
    made.add(topic, 0, [(None, b"", [])] * messages)
    return made


async def handed_in(together: Together, *outputs: Output) -> list[asyncio.Task[None]]:
    """Commits of these, one begun after the other, by partitions 0, 1 and so on."""
    tasks = []
    for number, each in enumerate(outputs):
        tasks.append(asyncio.create_task(together.commit(number, each)))
        await turns()
    return tasks


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
