"""When the sink merges minutes that are over, and when hours past their retention go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pointsman.streams import metrics, sink
from pointsman.streams.settings import Settings
from pointsman.streams.sink import SinkLane
from pointsman.streams.store.errors import StoreUnavailable


class Store:
    """A database that is away in some rounds."""

    def __init__(self, away: set[int]) -> None:
        self.round = 0
        self.did: list[tuple[int, str]] = []
        self._away = away

    async def roll_up(self) -> int:
        if self.round in self._away:
            raise StoreUnavailable("away")
        self.did.append((self.round, "merged"))
        return 3

    async def forget_hours(self, days: int) -> None:
        self.did.append((self.round, f"older than {days} days"))


async def rounds(store: Store, monkeypatch: pytest.MonkeyPatch, count: int, days: int) -> None:
    lane: Any = SinkLane.__new__(SinkLane)
    lane.settings, lane.store = Settings(aggregate_retention_days=days), store

    async def sleep(seconds: float) -> None:
        assert seconds == sink.ROLL_UP_EVERY_S
        store.round += 1
        if store.round > count:
            raise asyncio.CancelledError

    monkeypatch.setattr(lane, "sleep", sleep, raising=False)
    monkeypatch.setattr(SinkLane, "should_stop", False)
    with pytest.raises(asyncio.CancelledError):
        await SinkLane._roll_up.fun(lane)


async def test_minutes_are_merged_again_and_again_also_after_the_database_was_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, before = Store(away={2}), metrics.ROLLED_UP._value.get()
    await rounds(store, monkeypatch, 3, days=0)
    assert store.did == [(1, "merged"), (3, "merged")]
    assert metrics.ROLLED_UP._value.get() - before == 6


async def test_hours_go_by_the_retention_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "FORGET_EVERY", 2)
    store = Store(away=set())
    await rounds(store, monkeypatch, 3, days=30)
    assert store.did == [
        (1, "merged"),
        (1, "older than 30 days"),
        (2, "merged"),
        (3, "merged"),
        (3, "older than 30 days"),
    ]
