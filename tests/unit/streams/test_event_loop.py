"""Which event loop processes run on."""

from __future__ import annotations

import asyncio
import sys

import pytest

from pointsman.streams import loop
from pointsman.streams.cli import reach


async def of_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_processes_run_on_uvloop() -> None:
    pytest.importorskip("uvloop", reason="not made for this platform")

    assert loop.run(of_loop()) == "uvloop"
    assert reach.run(of_loop()) == "uvloop"


def test_without_uvloop_there_is_asyncios_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert loop.run(of_loop()).startswith("asyncio")
