"""Fetches: some time apart, and at once where nothing was asked for lately."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from pointsman.streams import fetches
from pointsman.streams.fetches import Fetches


class World:
    """A fetcher that notes what goes out and when, on a clock of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, apart_s: float = 0.02) -> None:
        self.now = 1_000.0
        self.sent: list[tuple[float, int]] = []
        self._fetcher = SimpleNamespace(_proc_fetch_request=self.send)
        patch.setattr(fetches, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(fetches, "asyncio", SimpleNamespace(sleep=self.sleep))
        self.fetches = Fetches(lambda: apart_s)
        self.fetches.install(self)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def send(self, assignment: str, node: int, request: str) -> str:
        assert (assignment, request) == ("assignment", "request")
        self.sent.append((round(self.now - 1_000, 6), node))
        return "answer"

    async def fetch(self, node: int = 1, after_s: float = 0.0) -> None:
        self.now += after_s
        assert await self._fetcher._proc_fetch_request("assignment", node, "request") == "answer"

    @property
    def moments(self) -> list[float]:
        return [at for at, _ in self.sent]


async def test_each_goes_out_a_while_after_the_one_before_and_at_once_after_a_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    for after_s in (0.0, 0.001, 0.005, 0.019, 0.5, 0.0):
        await world.fetch(after_s=after_s)
    assert world.moments == [0.0, 0.02, 0.04, 0.06, 0.56, 0.58]


async def test_brokers_do_not_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    for node in (1, 2, 1, 2):
        await world.fetch(node)
    assert world.sent == [(0.0, 1), (0.0, 2), (0.02, 1), (0.02, 2)]


async def test_after_an_error_the_next_goes_out_at_once_and_those_behind_it_keep_their_distance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    await world.fetch()
    world.fetches.at_once()
    for _ in range(2):
        await world.fetch(after_s=0.001)
    assert world.moments == [0.0, 0.001, 0.021]


async def test_a_fetch_that_is_cancelled_while_it_waits_ends_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, apart_s=60.0)
    monkeypatch.setattr(fetches, "asyncio", asyncio)
    await world.fetch()
    waiting = asyncio.create_task(world._fetcher._proc_fetch_request("assignment", 1, "request"))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await waiting is False
    assert len(world.sent) == 1
