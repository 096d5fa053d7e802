"""The event loop of every process: uvloop, on which the benchmarks run too; asyncio's own where there is none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on that loop."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(work)


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not made for Windows, where asyncio's own loop serves
    except ImportError:
        return None
    # Whoever has no Kafka client shall not pay for one: the model's process, `--help`.
    if "aiokafka" in sys.modules:
        from pointsman.streams import connections  # noqa: PLC0415

        connections.install()
    return uvloop.new_event_loop
