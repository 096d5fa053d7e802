"""A producer that asks, waits, tells and waits; and the same without Kafka, to compare with."""

from __future__ import annotations

import json
import random
from typing import Any

from aiokafka import TopicPartition
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from pointsman.models.state import Changes, Limits, Told, Units
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.restore import restore
from tests.support import rememberer
from tests.support.pipeline import Pipeline, wait_for
from tests.support.rememberer import AGENT
from tests.support.story import KINDS, UNITS


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
