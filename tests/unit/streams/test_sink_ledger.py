"""When the sink checks the ledger: not while it is behind, for the outcomes of what is accounted for still wait then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pointsman.streams import sink
from pointsman.streams.condition import BEHIND_BATCHES
from pointsman.streams.lane import Lane
from pointsman.streams.settings import Settings
from pointsman.streams.sink import SinkLane
from pointsman.streams.store.check import Difference

FEW = 2 * BEHIND_BATCHES * Settings().batch_records_max
"""What a lane of two partitions may lag without being behind."""
GAP = Difference("outcomes", "decisions: t[0] of c 0 to 9", 9, 4)


class Store:
    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield None


@pytest.mark.parametrize(
    ("report", "found"),
    [
        ({"healthy": True, "ready": True, "lag_records": FEW}, 1),
        ({"healthy": True, "ready": True, "lag_records": FEW + 1}, None),
        ({"healthy": False, "ready": True, "lag_records": 5}, None),
        ({"healthy": True, "ready": False, "lag_records": 0}, None),
        ({"healthy": True, "ready": True, "lag_records": 0, "partitions": []}, None),
    ],
)
async def test_a_ledger_is_checked_once_its_outcomes_had_their_turn(
    report: dict[str, Any], found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter(range(3))
    lane: Any = SinkLane.__new__(SinkLane)
    lane.settings, lane.store, lane.ledger_differences = Settings(), Store(), None
    monkeypatch.setattr(Lane, "health", lambda _lane: {"partitions": [0, 1], **report})

    async def sleep(_seconds: float) -> None:
        if next(rounds) == 1:
            raise asyncio.CancelledError

    async def check(*_: Any) -> list[Difference]:
        return [GAP]

    monkeypatch.setattr(lane, "sleep", sleep, raising=False)
    monkeypatch.setattr(SinkLane, "should_stop", False)
    monkeypatch.setattr(sink, "ledger_check", check)
    with pytest.raises(asyncio.CancelledError):
        await SinkLane._check_ledger.fun(lane)
    assert lane.ledger_differences == found
