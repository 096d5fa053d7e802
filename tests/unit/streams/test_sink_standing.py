"""What the sink tells the database and the metrics of success: once, again and again, and nothing that was true once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from pointsman.models.satisfaction import WEIGHTS, Weight
from pointsman.streams import sink
from pointsman.streams.settings import Settings
from pointsman.streams.sink import SinkLane
from pointsman.streams.standing import Standings
from pointsman.streams.store.errors import StoreUnavailable
from pointsman.streams.store.measures import Standing

ONE = Standing(
    agent="a", arm="control", window="1h", decisions=1, labels=1, success=1.0, signals=0, satisfaction=None
)


class Store:
    """A database that is away in some rounds."""

    def __init__(self, away: set[int]) -> None:
        self.round = 0
        self.told: list[Mapping[str, Weight]] = []
        self._away = away

    async def tell(self, _measures: Any, weights: Mapping[str, Weight]) -> None:
        self._look()
        self.told.append(weights)

    async def standings(self) -> list[Standing]:
        self._look()
        return [ONE]

    def _look(self) -> None:
        if self.round in self._away:
            raise StoreUnavailable("away")


async def rounds(store: Store, monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """How many figures were shown after each round."""
    shown, standings = [], Standings()
    monkeypatch.setattr(sink, "STANDINGS", standings)
    lane: Any = SinkLane.__new__(SinkLane)
    lane.settings, lane.store, lane._measures = (
        Settings(satisfaction={"accepted": Weight(1.0, 5.0)}),
        store,
        [],
    )

    async def sleep(_seconds: float) -> None:
        shown.append(len(standings._shown))
        store.round += 1
        if store.round == count:
            raise asyncio.CancelledError

    monkeypatch.setattr(lane, "sleep", sleep, raising=False)
    monkeypatch.setattr(SinkLane, "should_stop", False)
    with pytest.raises(asyncio.CancelledError):
        await SinkLane._judge.fun(lane)
    return shown


async def test_weights_are_told_once_with_what_the_settings_change(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(away=set())
    assert await rounds(store, monkeypatch, 3) == [1, 1, 1]
    assert store.told == [{**WEIGHTS, "accepted": Weight(1.0, 5.0)}]


async def test_while_the_database_is_away_nothing_is_shown_and_then_it_is_told_what_it_was_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(away={0, 2})
    assert await rounds(store, monkeypatch, 4) == [0, 1, 0, 1]
    assert len(store.told) == 1
