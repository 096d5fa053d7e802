"""The load generator, a process of its own: `python -m benchmarks.load.generator JSON`.

It says when it starts, sends what is due without looking at any answer, and says how late it was itself.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from confluent_kafka import Producer

from benchmarks.load.messages import Make, maker
from benchmarks.load.schedule import Schedule, Times, spread

ROOT = Path(__file__).resolve().parents[2]
TICK_S = 0.001
"""Between two looks at the clock: a hundredth of the shortest latency that matters here would cost a whole core."""
LATE_MS = 5.0
"""A generator whose 99th percentile of lateness is below kept its schedule: a quarter of a commit interval."""
HEAD_START_S = 0.2
"""Between the announcement of the schedule and its first request: the observer looks by then."""
FLUSH_S = 120


@dataclass(frozen=True)
class Offer:
    """What to send: a schedule of requests to a topic."""

    servers: str
    topic: str
    token: str
    rate: float
    count: int
    agents: tuple[str, ...] = ("documentation-keeper",)
    units: int = 0
    commits: str = ""


@dataclass(frozen=True)
class Kept:
    """How well the generator kept its schedule; lateness is from when a request was due to when it was handed over."""

    sent: int
    rate: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float

    @property
    def well(self) -> bool:
        """Whether it did; where not, latencies are still from the schedule, so they are too long, never too short."""
        return self.late_p99_ms < LATE_MS


class Generator:
    """The generator as a process; it has its schedule once this is made. Raises RuntimeError where it fails.

    Leaving its context ends it, whatever it still had to send.
    """

    def __init__(self, offer: Offer) -> None:
        command = [sys.executable, "-m", "benchmarks.load.generator", json.dumps(asdict(offer))]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.schedule = Schedule(self._line()["start_s"], offer.rate, offer.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self._process.kill()
        self._process.communicate()

    @property
    def running(self) -> bool:
        """Whether it still sends."""
        return self._process.poll() is None

    def finish(self) -> Kept:
        """What it says at its end."""
        kept = Kept(**self._line())
        self._process.wait()
        return kept

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            msg = f"the load generator ended with {self._process.wait()}"
            raise RuntimeError(msg)
        return dict(json.loads(line))


def run(offer: Offer) -> Kept:
    """Send everything when it is due."""
    make = maker(offer.token, Path(offer.commits) if offer.commits else None, offer.agents, offer.units)
    # The linger is librdkafka's default, part of every latency. Without it each request is a batch of its own, and the
    # broker takes a whole core for them. The queue holds what a stalled broker does not take.
    settings: dict[str, Any] = {
        "bootstrap.servers": offer.servers,
        "linger.ms": 5,
        "partitioner": "murmur2_random",
        "queue.buffering.max.messages": 10_000_000,
        "queue.buffering.max.kbytes": 4_000_000,
    }
    failed: list[str] = []

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failed.append(str(error))

    producer = Producer(settings | {"on_delivery": delivered})
    producer.list_topics(offer.topic, timeout=20)  # connected before the first is due
    gc.freeze()
    gc.disable()  # a collection would be lateness of our own
    schedule = Schedule(time.monotonic() + HEAD_START_S, offer.rate, offer.count)
    print(json.dumps({"start_s": schedule.start_s}), flush=True)
    handed = _send(producer, offer.topic, schedule, make)
    left = producer.flush(FLUSH_S)
    if left or failed:
        msg = f"{left + len(failed)} requests were not taken: {failed[:1]}"
        raise SystemExit(msg)
    late = spread((handed - schedule.times()) * 1000)
    rate = offer.count / max(handed[-1] - schedule.start_s, 1 / offer.rate)
    return Kept(offer.count, float(rate), late.p50, late.p99, late.greatest)


def _send(producer: Producer, topic: str, schedule: Schedule, make: Make) -> Times:
    handed = np.empty(schedule.count)
    sent, produce, poll, clock = 0, producer.produce, producer.poll, time.monotonic
    while sent < schedule.count:
        now = clock()
        due = schedule.due(now)
        for number in range(sent, due):
            key, value = make(number)
            produce(topic, value, key)
            handed[number] = clock()
        sent = due
        poll(0)
        rest = now + TICK_S - clock()
        if rest > 0:
            time.sleep(rest)
    return handed


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(asdict(run(Offer(**given | {"agents": tuple(given["agents"])})))))
