"""A story for agents with state, and workers that live through it: requests and labels in bursts, with faults between.

The producer waits between bursts that depend on each other, since the order of two topics is not determined. All else,
also the time of every record, is fixed by the story: so what two deployments make of it can be compared byte for byte.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from pointsman.models.replay import Asked, Event, replay
from pointsman.models.state import Limits, Told, Units
from pointsman.streams.state.partition import PartitionState
from tests.support import rememberer
from tests.support.pipeline import Pipeline, WorkerProcess, to_end, wait_for
from tests.support.rememberer import AGENT

UNITS: Final = [f"unit-{n}" for n in range(12)]
KINDS: Final = ("a", "b", "c")
VOLATILE: Final = ("decided_at", "timings")
"""Fields of an outcome that a clock fills."""


class Line(NamedTuple):
    """One record: a request (``what`` is its kind), or what was told of one (its label)."""

    unit: str
    id: str
    what: str
    at_ms: int


class Burst(NamedTuple):
    """Records that do not depend on each other."""

    asks: bool
    lines: list[Line]


def story(seed: int, bursts: int, most: int) -> list[Burst]:
    """Requests and labels in turn; labels are told again, and changed."""
    chance = random.Random(seed)
    at_ms = int(time.time() * 1000)
    asked: list[Line] = []
    told: list[Burst] = []
    for number in range(bursts):
        lines = []
        for _ in range(chance.randrange(most // 10, most)):
            at_ms += chance.randrange(50)
            if number % 2:
                of = chance.choice(asked)
                lines.append(Line(of.unit, of.id, chance.choice(("good", "bad")), at_ms))
            else:
                unit, kind = chance.choice(UNITS), chance.choice(KINDS)
                lines.append(Line(unit, f"d-{len(asked) + len(lines)}", kind, at_ms))
        if not number % 2:
            asked += lines
        told.append(Burst(not number % 2, lines))
    return told


class Replayed(NamedTuple):
    """What the code that training has makes of a story."""

    features: dict[str, dict[str, float]]
    """By decision."""
    units: Units


def replayed(bursts: Sequence[Burst]) -> Replayed:
    """Without Kafka."""
    events: list[Event] = [
        Asked(line.id, line.unit, line.at_ms / 1000, rememberer.Input(kind=line.what))
        if burst.asks
        else Told(line.id, line.what, line.at_ms / 1000)
        for burst in bursts
        for line in burst.lines
    ]
    assert AGENT.state is not None
    units = Units(AGENT.state)
    found = list(replay(AGENT, events, units))
    names = AGENT.feature_names
    return Replayed({each.decision_id: dict(zip(names, each.row, strict=True)) for each in found}, units)


class Stage:
    """A deployment on which a story is played."""

    def __init__(self, pipeline: Pipeline, seed: int, workers: int = 1, **options: str) -> None:
        """``options``: settings of the workers."""
        self.pipeline = pipeline
        self.chance = random.Random(seed)
        self._options = options
        self.agents = pipeline.folder / "agents"
        (self.agents / AGENT.name).mkdir(parents=True)
        shutil.copy(rememberer.__file__, self.agents / AGENT.name / "agent.py")
        self.crew = [self._worker().wait_ready() for _ in range(workers)]
        self._producer = Producer(
            {"bootstrap.servers": pipeline.bootstrap, "linger.ms": 5, "partitioner": "murmur2_random"}
        )
        self._done = {True: 0, False: 0}

    def _worker(self) -> WorkerProcess:
        return self.pipeline.worker("decisions", agents=str(self.agents), **self._options)

    def play(self, bursts: Sequence[Burst], faults: Mapping[int, str]) -> None:
        """``faults``: by place of the burst, what happens while it is worked on."""
        for place, burst in enumerate(bursts):
            topic = self.pipeline.names.requests if burst.asks else self.pipeline.names.feedback
            for line in burst.lines:
                while True:
                    try:
                        self._producer.produce(
                            topic, _value(line, burst, place), line.unit, timestamp=line.at_ms
                        )
                        break
                    except BufferError:
                        self._producer.poll(0.1)
            assert self._producer.flush(60) == 0, "the broker took not all records"
            before = self._done[burst.asks]
            self._done[burst.asks] += len(burst.lines)
            with ExitStack() as over:
                if place in faults:
                    self._wait(burst.asks, before + self.chance.randrange(len(burst.lines)))
                    self._fault(faults[place], over)
                self._wait(burst.asks, self._done[burst.asks])

    def _wait(self, asks: bool, count: int) -> None:
        """Until so many requests have outcomes, or so many events of feedback were learned."""
        wait_for(
            lambda: self._read(asks) >= count,
            f"{count} records",
            detail=lambda: f"{self._read(asks)} {[worker.tail() for worker in self.crew]}",
        )

    def _read(self, asks: bool) -> int:
        """Records that the group has read."""
        topic = self.pipeline.names.requests if asks else self.pipeline.names.feedback
        reader = Consumer(
            {"bootstrap.servers": self.pipeline.bootstrap, "group.id": self.pipeline.settings.group}
        )
        try:
            partitions = reader.list_topics(topic, timeout=20).topics[topic].partitions
            found = reader.committed([TopicPartition(topic, number) for number in partitions], timeout=20)
            return sum(max(0, each.offset) for each in found)
        finally:
            reader.close()

    def _fault(self, fault: str, over: ExitStack) -> None:
        place = self.chance.randrange(len(self.crew))
        if fault == "pause":
            # It does not answer the group, which gives its partitions to the other; then it comes back.
            over.enter_context(self.crew[place].frozen())
            return
        if fault == "rebalance":
            # One more takes its share of the partitions, then one of them leaves.
            self.crew.append(self._worker().wait_ready())
            self.crew.pop(place).stop()
            return
        self.crew[place].kill()
        for file in sorted((self.pipeline.folder / "data" / "state").glob("*")):
            if fault == "kill and delete":
                file.unlink()
            if fault == "kill and damage":
                damage(file, self.chance)
        self.crew[place] = self._worker()

    # -- what came of it -------------------------------------------------------------------------

    def outcomes(self) -> dict[int, list[bytes]]:
        """By partition, every outcome in its order, without its volatile fields and the topics' prefix."""
        found: dict[int, list[bytes]] = {}
        for each in self._all(self.pipeline.names.outcomes):
            value = {k: v for k, v in json.loads(each.value()).items() if k not in VOLATILE}
            text = json.dumps(value).replace(self.pipeline.prefix, "")
            found.setdefault(each.partition(), []).append(each.key() + b" " + text.encode())
        return found

    def features(self) -> dict[str, dict[str, float]]:
        """By decision, of all outcomes; those of one decision must be equal."""
        found: dict[str, dict[str, float]] = {}
        for each in self._all(self.pipeline.names.outcomes):
            value = json.loads(each.value())
            assert found.setdefault(value["decision_id"], value["features"]) == value["features"]
        return found

    def reached(self) -> list[int]:
        """The feedback offset of every outcome."""
        return [
            json.loads(each.value())["state"]["feedback_offset"]
            for each in self._all(self.pipeline.names.outcomes)
        ]

    def state(self) -> dict[int, dict[bytes, bytes]]:
        """By partition, key and value of all that the changelog still says."""
        found: dict[int, dict[bytes, bytes]] = {}
        for each in self._all(self.pipeline.names.state):
            of = found.setdefault(each.partition(), {})
            of.pop(each.key(), None)
            if each.value():
                of[each.key()] = each.value()
        return found

    def units(self) -> dict[int, Units]:
        """By partition, what a worker would restore from that."""
        found = {}
        for partition, records in self.state().items():
            state = PartitionState({AGENT.name: AGENT}, Limits())
            for key, value in records.items():
                state.load(key, value)
            found[partition] = state.units[AGENT.name]
        return found

    def _all(self, topic: str) -> list[Any]:
        return to_end(self.pipeline.bootstrap, topic)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Lines of all workers that there were."""
        lines = (line for worker in self.pipeline.workers for line in worker.lines())
        return [line for line in lines if event in line["event"]]


def damage(file: Path, chance: random.Random) -> None:
    """One byte of it, or its end."""
    content = bytearray(file.read_bytes())
    at = chance.randrange(len(content))
    content[at] ^= 0xFF
    file.write_bytes(content if chance.random() < 0.5 else content[:at])


def _value(line: Line, burst: Burst, place: int) -> bytes:
    if burst.asks:
        asked = {"id": line.id, "agent": AGENT.name, "unit": line.unit, "input": {"kind": line.what}}
        return json.dumps(asked).encode()
    told = {
        "id": f"e-{place}-{line.at_ms}-{line.id}",
        "decision_id": line.id,
        "agent": AGENT.name,
        "unit": line.unit,
        "observed_at": "2026-11-01T00:00:00Z",
        "label": line.what,
    }
    return json.dumps(told).encode()
