"""What a contender is told, and how it measures itself."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Task:
    """One run: read ``messages`` from ``topic``, write to the topics of ``prefix``."""

    servers: str
    prefix: str
    topic: str
    messages: int
    percent: float
    run: str
    """Makes group and transactional ids of this run its own."""

    @classmethod
    def given(cls) -> Task:
        """From the command line."""
        return cls(**json.loads(sys.argv[1]))


class Meter:
    """Wall and CPU time from `start` to `stop`; what an interpreter needs to start is not measured."""

    def start(self) -> None:
        """The first message is in hand."""
        self._wall, self._cpu = time.perf_counter(), _cpu_s()

    def stop(self, messages: int, **more: float) -> None:
        """The last commit is done: print the figures."""
        wall, cpu = time.perf_counter() - self._wall, _cpu_s() - self._cpu
        print(json.dumps({"messages": messages, "wall_s": wall, "cpu_s": cpu, **more}), flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def to_json(task: Task) -> str:
    """For the command line of a contender."""
    return json.dumps(asdict(task))
