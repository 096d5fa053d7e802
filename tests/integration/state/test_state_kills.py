"""Keyed state survives kills: what was decided is what an undisturbed replay decides, and so is the state."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from pointsman.models.state import Changes, Limits, Told, Units
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.restore import restore
from tests.support import rememberer
from tests.support.kafka import Kafka
from tests.support.pipeline import Pipeline, wait_for
from tests.support.rememberer import AGENT

KINDS = ("a", "b", "c")
UNITS = [f"unit-{n}" for n in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where workers find the agent."""
    made = tmp_path / "agents" / "rememberer"
    made.mkdir(parents=True)
    shutil.copy(rememberer.__file__, made / "agent.py")
    return made.parent


class Producer:
    """Asks, waits for the outcome, tells what was right, and waits until that was learned."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        self._pipeline = pipeline
        self._chance = random.Random(seed)
        self._asked = 0
        self._told = 0
        self.log: list[tuple[str, str, str, str]] = []
        """Unit, id and kind of what was asked, or unit, id and label of what was told; in order."""

    def _group(self) -> dict[str, Any]:
        return {"bootstrap.servers": self._pipeline.bootstrap, "group.id": self._pipeline.settings.group}

    def ask(self, count: int) -> None:
        """So many requests at once, until all have outcomes."""
        records = []
        for _ in range(count):
            unit, kind = self._chance.choice(UNITS), self._chance.choice(KINDS)
            id_ = f"d-{self._asked}"
            self._asked += 1
            value = {"id": id_, "agent": AGENT.name, "unit": unit, "input": {"kind": kind}}
            records.append((unit.encode(), json.dumps(value).encode()))
            self.log.append(("asked", unit, id_, kind))
        self._pipeline.send(records)
        self._pipeline.read(self._pipeline.names.outcomes, lambda found: len(found) >= self._asked)

    def tell(self, count: int) -> None:
        """Labels of decisions that were made, until they are learned."""
        asked = [each for each in self.log if each[0] == "asked"]
        records = []
        for _ in range(count):
            _, unit, id_, _ = self._chance.choice(asked)
            label = self._chance.choice(["good", "bad"])
            value = {
                "id": f"e-{self._told}",
                "decision_id": id_,
                "agent": AGENT.name,
                "unit": unit,
                "observed_at": "2026-11-01T00:00:00Z",
                "label": label,
            }
            self._told += 1
            records.append((unit.encode(), json.dumps(value).encode()))
            self.log.append(("told", unit, id_, label))
        self._pipeline.send(records, self._pipeline.names.feedback)
        wait_for(
            lambda: self._learned() == self._told, "labels to be learned", detail=lambda: f"{self._learned()}"
        )

    def _learned(self) -> int:
        """Events of feedback that the group has read."""
        reader = Consumer(self._group())
        try:
            topic = self._pipeline.names.feedback
            partitions = reader.list_topics(topic, timeout=20).topics[topic].partitions
            found = reader.committed([Place(topic, number) for number in partitions], timeout=20)
            return sum(max(0, each.offset) for each in found)
        finally:
            reader.close()


@pytest.mark.timeout(300)
async def test_after_kills_features_and_state_are_those_of_an_undisturbed_replay(
    kafka: Kafka, pipeline: Pipeline, folder: Path
) -> None:
    chance = random.Random(11)
    await pipeline.prepare()
    workers = [pipeline.worker("decisions", agents=str(folder)).wait_ready() for _ in range(2)]
    producer = Producer(pipeline, 3)
    faults = [*["kill"] * 6, "kill and damage", "kill and delete", "pause", "pause"]
    chance.shuffle(faults)
    for fault in faults:
        producer.ask(chance.randrange(5, 60))
        place = chance.randrange(len(workers))
        if fault == "pause":
            # It does not answer the group, which gives its partitions to the other; then it comes back.
            with workers[place].frozen():
                producer.tell(chance.randrange(5, 40))
            continue
        workers[place].kill()
        for file in (pipeline.folder / "data" / "state").iterdir():
            if fault == "kill and delete":
                file.unlink()
            if fault == "kill and damage":
                _damage(file, chance)
        workers[place] = pipeline.worker("decisions", agents=str(folder))
        producer.tell(chance.randrange(5, 40))
    replayed = Replay()
    for kind, unit, id_, what in producer.log:
        replayed.take(kind, unit, id_, what, 0.0)
    restores = [
        line for worker in pipeline.workers for line in worker.lines() if "keyed state" in line["event"]
    ]
    assert any(line.get("from_snapshot") for line in restores), "no snapshot was used"
    outcomes = pipeline.read(pipeline.names.outcomes, lambda _: True)
    found = {
        each["decision_id"]: each["features"] for each in (json.loads(each.value()) for each in outcomes)
    }
    assert len(outcomes) == len(found) == sum(kind == "asked" for kind, *_ in producer.log)
    without_age = {id_: {name: n for name, n in row.items() if name != "age_s"} for id_, row in found.items()}
    assert without_age == replayed.features
    reached = [json.loads(each.value())["state"]["feedback_offset"] for each in outcomes]
    assert max(reached) > 0
    restored = await everything(pipeline)
    assert {unit: {key: value[1:] for key, value in values.items()} for unit, values in restored.items()} == {
        unit: {key: value[1:] for key, value in values.items()}
        for unit, values in replayed.units.values.items()
    }


def _damage(file: Path, chance: random.Random) -> None:
    """One byte of it, or its end."""
    content = bytearray(file.read_bytes())
    at = chance.randrange(len(content))
    content[at] ^= 0xFF
    file.write_bytes(content if chance.random() < 0.5 else content[:at])


class Replay:
    """The same without Kafka."""

    def __init__(self) -> None:
        assert AGENT.state is not None
        self.units = Units(AGENT.state, Limits())
        self.features: dict[str, dict[str, float]] = {}

    def take(self, kind: str, unit: str, id_: str, what: str, at: float) -> None:
        changes = Changes(self.units)
        if kind == "asked":
            given = rememberer.Input(kind=what)
            (row,) = AGENT.features([given], [changes.seen(unit, at)])
            self.features[id_] = dict(zip(AGENT.feature_names[:-1], row[:-1], strict=True))
            (content,) = AGENT.state.note([given])  # type: ignore[union-attr]
            changes.note(unit, id_, content, at)
        else:
            assert changes.learn(Told(id_, what, at))
        self.units.keep(changes)


async def everything(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """The values that the changelog holds, of all partitions."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(pipeline.settings.partitions):
        state = PartitionState({AGENT.name: AGENT}, Limits())
        await restore(pipeline.bootstrap, TopicPartition(pipeline.names.state, number), state)
        found |= state.units[AGENT.name].values
    return found
