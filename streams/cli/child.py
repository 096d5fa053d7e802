"""A worker process that another process started: its orders come as one JSON line on standard input.

The end of that input says that the parent is gone, so no child outlives it. Connection strings travel here
and not in arguments, where every user of the machine could read them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
from msgspec import Struct

from pointsman.schemas.errors import PointsmanError
from pointsman.streams import loop
from pointsman.streams.settings import Settings


class Orders(Struct, frozen=True, kw_only=True):
    """What a child runs, and where its servers are."""

    name: str
    settings: Settings
    kafka: str
    dsn: str
    cluster: str = ""
    embedded: bool = False


class Ready(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A child's one line to its parent."""

    ops: str = ""
    """Address of its operations port."""
    error: str = ""
    """Why it cannot run; it ends after this."""


def main() -> int:
    """Run a worker as ordered; 0 after a drained stop, 1 after an error that a person can act on."""
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=Orders)
    from pointsman.streams.logs import configure  # noqa: PLC0415 - after the orders: they say how to log

    configure(orders.settings, orders.name)
    try:
        loop.run(_run(orders))
    except PointsmanError as error:
        _say(Ready(error=str(error)))
        return 1
    except OSError as error:  # a port that is taken
        _say(Ready(error=f"{type(error).__name__}: {error}"))
        return 1
    return 0


async def _run(orders: Orders) -> None:
    from pointsman.streams.worker import Place, run  # noqa: PLC0415

    stop = asyncio.Event()
    await _follow_parent(stop)
    place = Place(orders.kafka, orders.dsn, orders.cluster, orders.embedded)

    def ready(_worker: Any, ops: Any) -> None:
        _say(Ready(ops=f"http://{ops.host}:{ops.port}"))

    await run(orders.settings, place, stop=stop, on_ready=ready)


async def _follow_parent(stop: asyncio.Event) -> None:
    """Drain when standard input ends."""
    loop = asyncio.get_running_loop()

    class Input(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
            stop.set()

    await loop.connect_read_pipe(Input, sys.stdin)


def _say(ready: Ready) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
