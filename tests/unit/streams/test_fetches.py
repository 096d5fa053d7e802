"""Fetches: some time apart, at once where nothing was asked for lately, and topics that can wait seldom."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest

from pointsman.streams import fetches
from pointsman.streams.fetches import SELDOM_S, Fetches


class Request:
    """What the client asks a broker for."""

    def __init__(self, *topics: str) -> None:
        self._topics = [(topic, [(0, 5, 100), (1, 7, 100)]) for topic in topics]

    @property
    def topics(self) -> list[tuple[str, list[tuple[int, int, int]]]]:
        return self._topics


class World:
    """A fetcher that notes what goes out and when, on a clock of its own."""

    def __init__(
        self, patch: pytest.MonkeyPatch, apart_s: float = 0.02, seldom: tuple[str, ...] = ()
    ) -> None:
        self.now = 1_000.0
        self.sent: list[tuple[float, int, list[str]]] = []
        self._fetcher = SimpleNamespace(_proc_fetch_request=self.send)
        patch.setattr(fetches, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(fetches, "asyncio", SimpleNamespace(sleep=self.sleep))
        Fetches(lambda: apart_s, seldom).install(self)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def send(self, assignment: str, node: int, request: Request) -> str:
        assert assignment == "assignment"
        self.sent.append((round(self.now - 1_000, 6), node, [topic for topic, _ in request.topics]))
        return "answer"

    async def fetch(self, *topics: str, node: int = 1, after_s: float = 0.0) -> None:
        self.now += after_s
        assert await self._fetcher._proc_fetch_request("assignment", node, Request(*topics)) == "answer"

    @property
    def moments(self) -> list[float]:
        return [at for at, _, _ in self.sent]


async def test_each_goes_out_a_while_after_the_one_before_and_at_once_after_a_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    for after_s in (0.0, 0.001, 0.005, 0.019, 0.5, 0.0):
        await world.fetch("t", after_s=after_s)
    assert world.moments == [0.0, 0.02, 0.04, 0.06, 0.56, 0.58]


async def test_brokers_do_not_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    for node in (1, 2, 1, 2):
        await world.fetch("t", node=node)
    assert [(at, node) for at, node, _ in world.sent] == [(0.0, 1), (0.0, 2), (0.02, 1), (0.02, 2)]


async def test_topics_that_can_wait_are_asked_for_a_few_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, apart_s=0.02, seldom=("later", "latest"))
    for _ in range(100):
        await world.fetch("t", "later", "u", "latest")
    whole = [at for at, _, topics in world.sent if topics == ["t", "later", "u", "latest"]]
    assert {tuple(topics) for at, _, topics in world.sent if at not in whole} == {("t", "u")}
    gaps = [after - before for before, after in pairwise(whole)]
    assert len(whole) == 8
    assert all(SELDOM_S <= gap <= SELDOM_S + 0.02 for gap in gaps)


async def test_where_nothing_else_is_asked_for_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, seldom=("later",))
    await world.fetch("t", "later")
    await world.fetch("later")
    await world.fetch("later")
    assert [topics for _, _, topics in world.sent] == [["t", "later"], ["later"], ["later"]]


async def test_a_fetch_that_is_cancelled_while_it_waits_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, apart_s=60.0)
    monkeypatch.setattr(fetches, "asyncio", asyncio)
    await world.fetch("t")
    waiting = asyncio.create_task(world._fetcher._proc_fetch_request("assignment", 1, Request("t")))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await waiting is False
    assert len(world.sent) == 1
