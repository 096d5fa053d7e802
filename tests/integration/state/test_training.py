"""What documentation-keeper learns from is what it decides with: a history through Kafka against the replay of training."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.agents.documentation_keeper.dataset import dataset
from pointsman.models.agents.documentation_keeper.history import Commit, read_commits
from pointsman.models.agents.documentation_keeper.landings import events
from pointsman.models.replay import Asked, Event
from tests.support.histories import line, write_lines
from tests.support.kafka import Kafka
from tests.support.pipeline import WAIT_S, Pipeline

COMMITS = 200
"""Of each of two repositories; as few as `dataset` takes."""


def lines(seed: int) -> list[dict[str, Any]]:
    """Landings of one to four commits by four authors; what needs documentation depends on the path."""
    drawn = random.Random(seed)
    made: list[dict[str, Any]] = []
    for repository in ("example/one", "example/two"):
        number = 0
        while number < COMMITS:
            size = drawn.choice((1, 1, 1, 2, 4))
            paths = [
                drawn.choice(("src/api/public.py", "src/core/inner.py", "tests/test_x.py"))
                for _ in range(size)
            ]
            documented = [drawn.random() < (0.8 if "api" in path else 0.15) for path in paths]
            for path, docs in zip(paths, documented, strict=True):
                number += 1
                one = line(number, docs=docs, repo=repository, land=f"{number // 4:010x}{len(made)}"[:10])
                one["files"][0]["p"] = path
                one["files"][0]["a"] = drawn.randrange(1, 200)
                one["author"] = f"a{drawn.randrange(4)}"
                one["subject"] = drawn.choice(("Add an option", "Fix a crash", "Rename the thing", "Tidy up"))
                made.append(one)
            for one in made[-size:]:
                one["land"] = made[-1]["sha"]
                one["y"]["land"] = ["docs"] * any(documented)
    return made


@pytest.mark.timeout(300)
async def test_features_of_a_run_through_kafka_are_those_of_training(
    kafka: Kafka, pipeline: Pipeline, tmp_path: Path
) -> None:
    commits = list(read_commits(write_lines(tmp_path / "commits.jsonl", lines(5))))
    await pipeline.prepare()
    pipeline.worker("decisions").wait_ready()
    asked = _play(pipeline, commits)
    found = {}
    for each in pipeline.read(pipeline.names.outcomes, lambda some: len(some) >= asked):
        value = json.loads(each.value())
        found[value["decision_id"]] = tuple(value["features"][name] for name in AGENT.feature_names)
    trained = dataset(commits)
    ids = [event.decision_id for event in events(commits) if isinstance(event, Asked)]
    assert len(ids) == len(trained.rows) == len(found) == asked
    differing: Counter[str] = Counter()
    for id_, row in zip(ids, trained.rows, strict=True):
        differing.update(
            name for name, ours, its in zip(AGENT.feature_names, row, found[id_], strict=True) if ours != its
        )
    assert not differing
    # Else equal rows would say little: what is remembered tells decisions apart.
    assert len({row[-11:] for row in trained.rows}) > asked / 2


def _play(pipeline: Pipeline, commits: list[Commit]) -> int:
    """Each commit is asked about, and then told what is known; the next waits until that was learned. How many."""
    producer = Producer(
        {"bootstrap.servers": pipeline.bootstrap, "linger.ms": 0, "partitioner": "murmur2_random"}
    )
    reader = Consumer({"bootstrap.servers": pipeline.bootstrap, "group.id": pipeline.settings.group})
    sent: Counter[str] = Counter()
    requests, feedback = pipeline.names.requests, pipeline.names.feedback

    def read(topic: str) -> int:
        places = [TopicPartition(topic, number) for number in range(pipeline.settings.partitions)]
        return sum(max(0, each.offset) for each in reader.committed(places, timeout=20))

    try:
        for asks, some in groupby(events(commits), key=lambda event: isinstance(event, Asked)):
            topic = requests if asks else feedback
            for event in some:
                unit, value = _message(event, commits)
                producer.produce(topic, value, unit, timestamp=int(event.at * 1000))
                sent[topic] += 1
            assert producer.flush(60) == 0
            deadline = time.monotonic() + WAIT_S
            while read(topic) < sent[topic]:  # hundreds of times, so it looks often
                assert time.monotonic() < deadline, f"{topic}: {read(topic)} of {sent[topic]} are read"
                time.sleep(0.002)
    finally:
        reader.close()
    return sent[requests]


def _message(event: Event, commits: list[Commit]) -> tuple[str, bytes]:
    if isinstance(event, Asked):
        assert event.unit is not None
        given = {"id": event.decision_id, "agent": AGENT.name, "unit": event.unit, "input": event.input}
        return event.unit, msgspec.json.encode(given)
    unit = commits[int(event.decision_id.rsplit("-", 1)[1])].repository
    told = {
        "id": f"{event.decision_id}-label",
        "decision_id": event.decision_id,
        "agent": AGENT.name,
        "unit": unit,
        "observed_at": "2026-11-01T00:00:00Z",
        "label": event.label,
    }
    return unit, msgspec.json.encode(told)
