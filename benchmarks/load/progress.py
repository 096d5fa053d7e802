"""How a worker gets on with what waits for it: requests committed, CPU and memory, looked at from outside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.load.deployment import decided, family
from tests.support.pipeline import WorkerProcess

LOOK_S = 0.25
"""Between two looks; each asks the worker for one metric."""
STUCK_S = 60.0
"""Without a single commit for so long, something hangs."""


@dataclass(frozen=True, slots=True)
class Look:
    """At one moment, seconds of `time.monotonic`."""

    at_s: float
    decided: int
    cpu_s: float
    """Of all processes of the worker together."""
    rss_mb: dict[str, float]
    """By process: resident memory, in MB (10^6 bytes)."""


def looks(worker: WorkerProcess, until: int) -> Iterator[Look]:
    """Until so many requests are decided. Raises TimeoutError where nothing moves any more."""
    ops, processes = worker.ops(), family(worker)
    assert ops is not None, "the worker is ready"
    moved, last = time.monotonic(), -1
    while last < until:
        found = decided(ops)
        now = time.monotonic()
        if found > last:
            moved = now
        elif now - moved > STUCK_S:
            msg = (
                f"{found:,} of {until:,} requests decided, and none more for {STUCK_S:.0f} s; {worker.tail()}"
            )
            raise TimeoutError(msg)
        last = found
        cpu = sum(sum(process.cpu_times()[:2]) for process in processes.values())
        rss = {name: process.memory_info().rss / 1e6 for name, process in processes.items()}
        yield Look(now, found, cpu, rss)
        time.sleep(LOOK_S)


@dataclass(frozen=True, slots=True)
class Pace:
    """Of the middle of a backlog."""

    rate: float
    """Requests a second."""
    cpu_us: float
    """Of all processes of the worker, a request."""


def pace(seen: list[Look], since_s: float, total: int) -> Pace:
    """From the first look after ``since_s`` to the last before the end: neither the start nor the rest at the end.

    Raises ValueError where it went too quickly to be seen.
    """
    inside = [look for look in seen if look.at_s >= since_s and look.decided < total]
    if len(inside) < 2:
        msg = f"{total:,} requests are too few: {len(inside)} looks while there was a backlog"
        raise ValueError(msg)
    first, last = inside[0], inside[-1]
    count = last.decided - first.decided
    return Pace(count / (last.at_s - first.at_s), (last.cpu_s - first.cpu_s) / count * 1e6)
