"""One offer of load and what became of it; and how much a deployment can take."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.deployment import Deployment
from benchmarks.load.generator import Generator, Kept, Offer
from benchmarks.load.observer import Observer
from benchmarks.load.schedule import Schedule, Spread, Times, all_answered, latencies

PATIENCE_S = 60.0
"""After the last request was due: an outcome that takes longer counts as lost, and the measurement fails."""
DRAIN = 60_000
"""Requests sent at once for the first estimate of the capacity: a few seconds of work."""
OVER = 1.3
"""Times the estimate: more than can be done, so that what is done is the capacity."""


@dataclass(frozen=True)
class Load:
    """Which requests."""

    commits: Path | None = None

    def offer(self, deployment: Deployment, token: str, rate: float, count: int) -> Offer:
        """For the generator."""
        commits = str(self.commits or "")
        return Offer(deployment.servers, deployment.names.requests, token, rate, count, commits=commits)


@dataclass(frozen=True)
class Phase:
    """What was offered, how well, and the latencies."""

    rate: float
    spread: Spread
    generator: Kept

    def as_dict(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self) | {"schedule_kept": self.generator.well}


def offer(
    deployment: Deployment, observer: Observer, load: Load, *, rate: float, count: int, token: str = ""
) -> tuple[Schedule, Times, Kept]:
    """Offer requests on a schedule; when their outcomes were seen. Raises `Unanswered` where one was not."""
    token = token or secrets.token_hex(4)
    with Generator(load.offer(deployment, token, rate, count)) as generator:
        schedule = generator.schedule
        seen = observer.collect(token, count, until_s=max(schedule.end_s, time.monotonic()) + PATIENCE_S)
        kept = generator.finish()
    all_answered(seen)
    return schedule, seen, kept


def steady(
    deployment: Deployment, observer: Observer, load: Load, *, rate: float, seconds: float, warm_up_s: float
) -> Phase:
    """Latencies at a constant rate, those of the first ``warm_up_s`` left out."""
    count = int(rate * (warm_up_s + seconds))
    schedule, seen, kept = offer(deployment, observer, load, rate=rate, count=count)
    return Phase(rate, latencies(schedule, seen, warm_up_s=warm_up_s), kept)


def capacity(deployment: Deployment, observer: Observer, load: Load, *, seconds: float) -> float:
    """Outcomes a second while more is offered than can be done: generator and observer run as they do later."""
    _, seen, _ = offer(deployment, observer, load, rate=1e9, count=DRAIN)
    estimate = rate_between(seen, np.percentile(seen, 20), seen.max())
    rate = estimate * OVER
    schedule, seen, _ = offer(deployment, observer, load, rate=rate, count=int(rate * seconds))
    return rate_between(seen, schedule.start_s + seconds / 4, schedule.end_s)


def rate_between(seen: Times, begin_s: float, end_s: float) -> float:
    """Outcomes a second in a span."""
    return float(((seen > begin_s) & (seen <= end_s)).sum() / (end_s - begin_s))
