"""Garbage is collected by the clock while the collector runs, and as ever after it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from pointsman.streams import collector
from pointsman.streams.collector import Collector


class Knot:
    """Refers to itself: only a collection frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setattr(collector, "YOUNG_S", 0.001)
    service = Collector()
    await service.start()
    yield service
    await service.stop()
    assert gc.isenabled()
    assert not gc.get_freeze_count()


async def test_no_collection_interrupts_and_the_clock_frees_what_refers_to_itself(running: Collector) -> None:
    assert not gc.isenabled()
    assert gc.get_freeze_count()
    freed = asyncio.Event()
    knot = weakref.ref(Knot(), lambda _: freed.set())
    await asyncio.wait_for(freed.wait(), 30)
    assert knot() is None


async def test_what_has_grown_old_is_freed_too(running: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "ALL_EVERY", 3)
    freed = asyncio.Event()
    old = Knot()
    gc.collect()  # in the oldest generation now
    knot = weakref.ref(old, lambda _: freed.set())
    del old
    await asyncio.wait_for(freed.wait(), 30)
    assert knot() is None
