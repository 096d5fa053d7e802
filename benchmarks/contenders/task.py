"""What a contender is told, and how it measures itself."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Task:
    """One run: read ``warm_up + messages`` from ``topic``, write outcomes to ``target``."""

    servers: str
    prefix: str
    topic: str
    target: str
    messages: int
    """Those that are measured."""
    percent: float
    """Share of the model arm."""
    run: str
    """Makes group and transactional ids of this run its own."""
    decides: bool = True
    """Whether outcomes are decided; otherwise key and value go through as they are."""
    shadow_percent: float = 100.0
    estimator: bool = False
    """Whether the model is asked as scikit-learn trained it, and not as the trees that Pointsman makes of it."""
    warm_up: int = 0
    """Messages that come before and are not measured."""

    @classmethod
    def given(cls) -> Task:
        """From the command line."""
        return cls(**json.loads(sys.argv[1]))


class Meter:
    """Wall and CPU time from `start` to the last `mark`; what an interpreter needs to start is not measured."""

    def start(self) -> None:
        """The first message is in hand."""
        self._wall, self._cpu = time.perf_counter(), _cpu_s()

    def mark(self) -> None:
        """A commit is done."""
        self._marked = time.perf_counter(), _cpu_s()

    def stop(self, messages: int, **more: float) -> None:
        """Print the figures up to the last mark."""
        wall, cpu = self._marked[0] - self._wall, self._marked[1] - self._cpu
        print(json.dumps({"messages": messages, "wall_s": wall, "cpu_s": cpu, **more}), flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def to_json(task: Task) -> str:
    """For the command line of a contender."""
    return json.dumps(asdict(task))
