"""When the sink looks for drift, what it asks for, and that nothing is shown that was true once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pointsman.models.drift import Drift, Limits
from pointsman.streams import sink
from pointsman.streams.drifts import Drifts
from pointsman.streams.settings import Settings
from pointsman.streams.sink import SinkLane
from pointsman.streams.store.drift import Drifted
from pointsman.streams.store.errors import StoreUnavailable

FOUND = [Drifted("a", Drift("files", 900, 0.5, 0.001, "drifted"))]
SETTINGS = Settings(
    drift_window_h=6,
    drift_decisions_min=7,
    drift_effect_min=0.5,
    drift_alpha=0.2,
    aggregate_retention_days=30,
)


class Store:
    """A database that is away in some rounds."""

    def __init__(self, away: set[int]) -> None:
        self.round = 0
        self.asked: list[tuple[int, Limits, int]] = []
        self.forgot: list[tuple[int, int, int]] = []
        self._away = away

    async def drifts(self, limits: Limits, hours: int) -> list[Drifted]:
        if self.round in self._away:
            raise StoreUnavailable("away")
        self.asked.append((self.round, limits, hours))
        return FOUND

    async def forget_drift(self, hours: int, days: int) -> None:
        self.forgot.append((self.round, hours, days))


async def rounds(store: Store, monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[list[int], list[float]]:
    """How many figures were shown after each round, and how long it then waited."""
    shown, waits, drifts = [], [], Drifts()
    monkeypatch.setattr(sink, "DRIFTS", drifts)
    lane: Any = SinkLane.__new__(SinkLane)
    lane.settings, lane.store, lane._drift = SETTINGS, store, True

    async def sleep(seconds: float) -> None:
        shown.append(len(drifts._shown))
        waits.append(seconds)
        store.round += 1
        if store.round == count:
            raise asyncio.CancelledError

    monkeypatch.setattr(lane, "sleep", sleep, raising=False)
    monkeypatch.setattr(SinkLane, "should_stop", False)
    with pytest.raises(asyncio.CancelledError):
        await SinkLane._look_for_drift.fun(lane)
    return shown, waits


async def test_it_looks_again_and_again_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "FORGET_EVERY", 2)
    store = Store(away=set())
    shown, waits = await rounds(store, monkeypatch, 3)
    assert (shown, waits) == ([1, 1, 1], [sink.DRIFT_EVERY_S] * 3)
    limits = Limits(decisions=7, effect=0.5, alpha=0.2)
    assert store.asked == [(0, limits, 6), (1, limits, 6), (2, limits, 6)]
    assert store.forgot == [(0, 6, 30), (2, 6, 30)]


async def test_while_the_database_is_away_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, waits = await rounds(Store(away={0, 2}), monkeypatch, 4)
    assert shown == [0, 1, 0, 1]
    assert waits[0] < waits[1]


async def test_without_anything_to_watch_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lane: Any = SinkLane.__new__(SinkLane)
    lane.settings, lane.store, lane._drift = SETTINGS, None, False
    monkeypatch.setattr(SinkLane, "should_stop", False)
    await SinkLane._look_for_drift.fun(lane)
