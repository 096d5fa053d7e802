"""More partitions: what agents remember goes to where the requests of its unit will be, whatever happens meanwhile."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Producer as Client
from confluent_kafka.admin import AdminClient, NewPartitions

from pointsman.models.state import Limits
from pointsman.streams.partitioner import by_crc32, by_murmur2
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.restore import restore
from tests.support import rememberer
from tests.support.asking import Producer, Replay, everything
from tests.support.commands import Ran, _environment, pointsman
from tests.support.kafka import Kafka
from tests.support.pipeline import Pipeline, wait_for
from tests.support.rememberer import AGENT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where workers find the agent."""
    made = tmp_path / "agents" / "rememberer"
    made.mkdir(parents=True)
    shutil.copy(rememberer.__file__, made / "agent.py")
    return made.parent


@pytest.fixture
def two(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    """A deployment whose topics have two partitions."""
    deployment = Pipeline(kafka.bootstrap, "", topic_prefix, tmp_path, {"partitions": "2"})
    yield deployment
    deployment.close()


def settings(pipeline: Pipeline) -> dict[str, str]:
    return {
        "kafka": pipeline.bootstrap,
        "topic_prefix": pipeline.prefix,
        "group": pipeline.settings.group,
        "log": "json",
    }


def grow(pipeline: Pipeline, *words: str) -> Ran:
    return pointsman(settings(pipeline), "topics", "grow", "--json", *words)


def counts(pipeline: Pipeline) -> dict[str, int]:
    """Partitions by topic, as another client sees them."""
    found = AdminClient({"bootstrap.servers": pipeline.bootstrap}).list_topics(timeout=20).topics
    names = pipeline.names
    wanted = (names.requests, names.feedback, names.outcomes, names.state, *names.retries)
    return {name: len(found[name].partitions) for name in wanted}


def features(pipeline: Pipeline, count: int) -> dict[str, dict[str, float]]:
    """Of each decision, without what depends on the clock; fails where one was decided twice or not."""
    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= count)
    bodies = [json.loads(each.value()) for each in outcomes]
    assert len({each["decision_id"] for each in bodies}) == len(bodies) == count
    return {
        each["decision_id"]: {name: n for name, n in each["features"].items() if name != "age_s"}
        for each in bodies
    }


def replay(producer: Producer) -> Replay:
    replayed = Replay()
    for kind, unit, id_, what in producer.log:
        replayed.take(kind, unit, id_, what, 0.0)
    return replayed


async def check(pipeline: Pipeline, producer: Producer, partitions: int) -> None:
    """Features and state are those of a run without partitions, and the state lies where it belongs."""
    replayed = replay(producer)
    assert features(pipeline, producer._asked) == replayed.features
    pipeline.options["partitions"] = str(partitions)
    kept = await everything(pipeline)
    assert {unit: {key: value[1:] for key, value in values.items()} for unit, values in kept.items()} == {
        unit: {key: value[1:] for key, value in values.items()}
        for unit, values in replayed.units.values.items()
    }
    for number in range(partitions):
        state = PartitionState({AGENT.name: AGENT}, Limits())
        await restore(pipeline.bootstrap, TopicPartition(pipeline.names.state, number), state)
        units = state.units[AGENT.name]
        found = {*units.values, *(note.unit for note in units.notes.values())}
        assert {by_murmur2(unit.encode(), partitions) for unit in found} <= {number}


@pytest.mark.timeout(300)
async def test_decisions_after_a_growth_are_those_of_an_undisturbed_replay(
    two: Pipeline, folder: Path
) -> None:
    await two.prepare()
    workers = [two.worker("decisions", agents=str(folder)).wait_ready() for _ in range(2)]
    producer = Producer(two, 5)
    for _ in range(2):
        producer.ask(60)
        producer.tell(40)
    refused = grow(two, "--partitions", "5")
    assert refused.code == 1
    assert "2 workers are running" in refused.err
    for worker in workers:
        worker.stop()
    done = grow(two, "--partitions", "5")
    assert done.code == 0, done.err
    assert done.json()["units"] > 3
    assert set(counts(two).values()) == {5}
    again = grow(two, "--partitions", "5")
    assert again.code == 1
    assert "have 5 partitions" in again.err
    restart_producer(two)

    workers = [two.worker("decisions", agents=str(folder)).wait_ready() for _ in range(2)]
    producer.ask(60)
    producer.tell(60)  # of decisions that were made before, too
    workers[0].kill()
    producer.ask(60)
    lines = [line for worker in two.workers for line in worker.lines() if "keyed state" in line["event"]]
    assert any(line.get("from_snapshot") for line in lines[-5:]), "snapshots from before the growth were used"
    await check(two, producer, 5)


@pytest.mark.timeout(300)
async def test_a_topic_grown_behind_its_back_halts_the_lane_and_topics_grow_puts_it_right(
    two: Pipeline, folder: Path
) -> None:
    await two.prepare()
    worker = two.worker("decisions", agents=str(folder)).wait_ready()
    producer = Producer(two, 6)
    producer.ask(80)
    producer.tell(60)
    with worker.frozen():
        waiting(
            two, producer, 5
        )  # by the old number of partitions; the broker answers its open question with them
        waiting(two, producer, 40)
        admin = AdminClient({"bootstrap.servers": two.bootstrap})
        admin.create_partitions([NewPartitions(two.names.requests, 3)])[two.names.requests].result(30)
        restart_producer(two)
        waiting(two, producer, 40)
    wait_for(lambda: worker.report("health")["lanes"]["decisions"]["halted"], "the lane to halt")
    halted = worker.report("health")["lanes"]["decisions"]["halted"]
    assert "topics grow --partitions 3" in halted
    assert not worker.report("health")["healthy"]
    check_topics = pointsman(settings(two), "topics", "check", "--json")
    assert check_topics.code == 1
    assert "topics grow" in check_topics.out
    worker.stop()
    refuses(two, folder, "must be equal")

    assert "--partitions 3" in grow(two, "--partitions", "4").err
    done = grow(two, "--partitions", "3")
    assert done.code == 0, done.err
    assert done.json()["sent_again"] > 0
    two.worker("decisions", agents=str(folder)).wait_ready()
    two.read(two.names.outcomes, lambda found: len(found) >= producer._asked)
    producer.ask(30)
    await check(two, producer, 3)


def restart_producer(pipeline: Pipeline) -> None:
    """One that runs knows of the growth minutes later."""
    del pipeline.__dict__["_producer"]


def waiting(pipeline: Pipeline, producer: Producer, count: int) -> None:
    """Requests that nobody waits for."""
    read, pipeline.read = pipeline.read, lambda *_, **__: []  # type: ignore[method-assign]
    try:
        producer.ask(count)
    finally:
        pipeline.read = read  # type: ignore[method-assign]


def refuses(pipeline: Pipeline, folder: Path, why: str) -> None:
    """A worker does not begin, and says why."""
    worker = pipeline.worker("decisions", agents=str(folder))
    wait_for(lambda: worker.ended() is not None, "the worker to end", detail=worker.tail)
    assert worker.ended() == 1
    assert why in worker.tail()


@pytest.mark.timeout(300)
async def test_all_topics_grown_by_hand_keep_workers_out_until_the_state_is_moved(
    two: Pipeline, folder: Path
) -> None:
    await two.prepare()
    worker = two.worker("decisions", agents=str(folder)).wait_ready()
    producer = Producer(two, 7)
    producer.ask(80)
    producer.tell(60)
    worker.stop()
    admin = AdminClient({"bootstrap.servers": two.bootstrap})
    names = two.names
    others = (names.shadows, names.escalations, names.summaries, names.dead_letters, names.redrives)
    for name in (*counts(two), *others):
        admin.create_partitions([NewPartitions(name, 4)])[name].result(30)
    assert pointsman(settings(two), "topics", "check").code == 0
    refuses(two, folder, "topics grow --partitions 4")
    done = grow(two, "--partitions", "4")
    assert done.code == 0, done.err
    assert done.json()["topics"] == []
    restart_producer(two)
    assert done.json()["units"] > 0
    two.worker("decisions", agents=str(folder)).wait_ready()
    producer.ask(60)
    await check(two, producer, 4)


def entries(count: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Unit, key and value of values, in the changelog's form."""
    chance = random.Random(2)
    for n in range(count):
        unit = f"unit-{chance.randrange(2_000)}"
        value = {"at": float(n), "content": [n, 0]}
        key = json.dumps([AGENT.name, "1", "value", unit, f"k{n}"], separators=(",", ":"))
        yield unit.encode(), key.encode(), json.dumps(value).encode()


def fill(pipeline: Pipeline, count: int, home: Any = by_murmur2) -> dict[str, dict[str, tuple[Any, ...]]]:
    """State of many units at two partitions, without any worker; what it is."""
    client = Client({"bootstrap.servers": pipeline.bootstrap, "queue.buffering.max.messages": 1_000_000})
    wanted: dict[str, dict[str, tuple[Any, ...]]] = {}
    for unit, key, value in entries(count):
        client.produce(pipeline.names.state, value, key, partition=home(unit, 2))
        entry = json.loads(value)
        wanted.setdefault(unit.decode(), {})[json.loads(key)[4]] = (entry["at"], *entry["content"])
    assert client.flush(60) == 0
    return wanted


@pytest.mark.timeout(300)
async def test_a_growth_that_is_killed_anywhere_is_ended_by_the_same_command(
    two: Pipeline, folder: Path
) -> None:
    await two.prepare()
    wanted = fill(two, 60_000)
    chance = random.Random(4)
    base = [sys.executable, "-m", "pointsman.streams.cli", "topics", "grow", "--partitions", "5"]
    killed = 0
    for n in range(6):
        process = subprocess.Popen(
            base, env=_environment(settings(two)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        # The first as soon as a topic has grown; the others anywhere from their first look to their end.
        if n == 0:
            wait_for(lambda: max(counts(two).values()) == 5, "a topic to grow")
        else:
            time.sleep(2.5 + chance.random() * 5)
        if process.poll() is None:
            process.kill()
            killed += 1
        process.wait()
        if n == 0:
            refuses(two, folder, "must be equal")
    assert killed >= 2
    done = grow(two, "--partitions", "5")
    assert done.code == 0 or "have 5 partitions, and Kafka takes none away" in done.err, done.err
    assert set(counts(two).values()) == {5}
    two.options["partitions"] = "5"
    assert await everything(two) == wanted
    state = PartitionState({AGENT.name: AGENT}, Limits())
    await restore(two.bootstrap, TopicPartition(two.names.state, 3), state)
    found = state.units[AGENT.name].values
    assert found
    assert all(by_murmur2(unit.encode(), 5) == 3 for unit in found)
    ages = [list(values.values())[-1][0] for values in found.values()]
    assert ages == sorted(ages), "units in the order of their last changes"
    two.worker("decisions", agents=str(folder)).wait_ready()


@pytest.mark.timeout(120)
async def test_producers_with_another_partitioner_are_seen_before_anything_moves(
    two: Pipeline, folder: Path
) -> None:
    await two.prepare()
    wanted = fill(two, 500, by_crc32)
    refused = grow(two, "--partitions", "3")
    assert refused.code == 1
    assert "another partitioner" in refused.err
    assert set(counts(two).values()) == {2}, "Kafka takes no partition away again"
    done = grow(two, "--partitions", "3", "--partitioner", "crc32")
    assert done.code == 0, done.err
    two.options["partitions"] = "3"
    assert await everything(two) == wanted
    for number in range(3):
        state = PartitionState({AGENT.name: AGENT}, Limits())
        await restore(two.bootstrap, TopicPartition(two.names.state, number), state)
        assert {by_crc32(unit.encode(), 3) for unit in state.units[AGENT.name].values} == {number}


@pytest.mark.timeout(120)
async def test_a_growth_waits_for_no_one_and_says_what_is_in_its_way(two: Pipeline) -> None:
    await two.prepare()
    two.send((b"u", json.dumps({"id": f"r{n}"}).encode()) for n in range(7))
    refused = grow(two, "--partitions", "3")
    assert refused.code == 1
    assert f"7 in {two.names.requests}" in refused.err
    assert set(counts(two).values()) == {2}, "nothing was done"
    fewer = grow(two, "--partitions", "2")
    assert "must be more" in fewer.err
    process = subprocess.Popen(
        [sys.executable, "-m", "pointsman.streams.cli", "topics", "grow", "--partitions", "3"],
        env=_environment(settings(two)),
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:
        two.send([(b"u", b"{}")])
        time.sleep(0.1)
    assert process.stderr is not None
    assert "somebody still sends" in process.stderr.read()


async def test_keys_lie_where_the_clients_put_them(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}homes", 7)
    keys = [f"ключ-{n}".encode()[: n % 23 + 1] for n in range(300)]
    for partitioner, home in (("murmur2_random", by_murmur2), ("consistent_random", by_crc32)):
        found: dict[bytes, int] = {}
        client = Client({"bootstrap.servers": kafka.bootstrap, "partitioner": partitioner})

        def came(_error: Any, message: Any, found: dict[bytes, int] = found) -> None:
            found[message.key()] = message.partition()

        for key in keys:
            client.produce(topic, b"", key, on_delivery=came)
        assert client.flush(30) == 0
        assert found == {key: home(key, 7) for key in set(keys)}
