"""When requests are due, and what a run's latencies are: arithmetic alone, on one monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
"""Seconds of `time.monotonic`, which all processes of a machine share; NaN where nothing happened."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """``count`` requests, ``rate`` a second, evenly, the first at ``start_s`` (seconds, `time.monotonic`)."""

    start_s: float
    rate: float
    count: int

    def due(self, now_s: float) -> int:
        """How many should have been sent by now; whether any of them was answered plays no part."""
        if now_s < self.start_s:
            return 0
        return min(self.count, int((now_s - self.start_s) * self.rate) + 1)

    def times(self) -> Times:
        """When each should be sent."""
        return self.start_s + np.arange(self.count, dtype=np.float64) / self.rate

    @property
    def end_s(self) -> float:
        """When the last is due."""
        return self.start_s + (self.count - 1) / self.rate


@dataclass(frozen=True, slots=True)
class Spread:
    """Latencies in milliseconds."""

    count: int
    p50: float
    p95: float
    p99: float
    greatest: float


class Unanswered(RuntimeError):
    """Requests that had no outcome: percentiles over the rest would flatter."""


def latencies(schedule: Schedule, seen: Times, *, warm_up_s: float = 0.0) -> Spread:
    """From when each request *should* have been sent to when its outcome was seen.

    A server that stalls is so charged with every request that was due meanwhile, sent late or not. Those due in
    the first ``warm_up_s`` are left out. Raises `Unanswered` where one has no outcome.
    """
    all_answered(seen)
    scheduled = schedule.times()
    return spread((seen - scheduled)[scheduled >= schedule.start_s + warm_up_s] * 1000)


def all_answered(seen: Times) -> None:
    """Raises `Unanswered` where a request has no outcome."""
    missing = int(np.isnan(seen).sum())
    if missing:
        msg = f"{missing:,} of {len(seen):,} requests have no outcome"
        raise Unanswered(msg)


def spread(values_ms: Times) -> Spread:
    """Nearest-rank percentiles: each is a latency that somebody had. Raises ValueError where there is none."""
    if not len(values_ms):
        msg = "no latencies"
        raise ValueError(msg)
    ordered = np.sort(values_ms)

    def rank(share: float) -> float:
        # The least value that at least this share does not exceed; 1e-9 forgives 0.99 * 100 = 99.00000000000001.
        return float(ordered[max(0, int(np.ceil(share * len(ordered) - 1e-9)) - 1)])

    return Spread(len(ordered), rank(0.50), rank(0.95), rank(0.99), float(ordered[-1]))
