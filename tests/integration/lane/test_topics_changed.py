"""Topics that are deleted, made anew or grown behind a lane's back; and what looks like it and is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from pointsman.schemas.codec import encode
from pointsman.schemas.control import Flag
from pointsman.streams import metrics
from pointsman.streams.errors import TopicProblem
from pointsman.streams.flags import FlagFollower
from pointsman.streams.shape import shapes
from tests.integration.lane.test_lane_faults import Kept, produce, reading, until
from tests.support.kafka import Kafka, KafkaServer


def grow(bootstrap: str, topic: str, to: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_partitions([NewPartitions(topic, to)])[topic].result(30)


def delete(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic], operation_timeout=30)[topic].result(30)


def make_anew(bootstrap: str, topic: str, partitions: int) -> None:
    delete(bootstrap, topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=30)[topic].result(30)


@contextlib.asynccontextmanager
async def client(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def test_a_topics_shape_is_as_other_clients_see_it(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}shape", 3)
    there = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=20).topics
    async with client(kafka.bootstrap) as admin:
        found = await shapes(admin, [topic, f"{topic_prefix}none"])
        assert found[topic].partitions == len(there[topic].partitions) == 3
        assert len(found[topic].id) == 36
        assert found[f"{topic_prefix}none"].partitions == 0
        assert (await shapes(admin, [topic])) == {topic: found[topic]}, "asking made no topic, and ids stay"
    assert (
        f"{topic_prefix}none"
        not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=20).topics
    )


async def test_a_grown_topic_halts_the_lane_before_its_new_partition_is_read(
    kafka: Kafka, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}grown", 2)
    other = kafka.create_topic(f"{topic_prefix}other", 1)
    tp, kept, beside = TopicPartition(topic, 0), Kept(), Kept()
    await produce(kafka.bootstrap, tp, 10)
    async with (
        reading(kafka.bootstrap, topic, kept) as lane,
        reading(kafka.bootstrap, other, beside) as second,
    ):
        await until(lambda: kept.positions.get(tp) == 10)
        assert lane.health()["healthy"]
        grow(kafka.bootstrap, topic, 3)
        await produce(kafka.bootstrap, TopicPartition(topic, 2), 5)
        await until(lambda: lane.halted)
        health = lane.health()
        assert not health["healthy"]
        assert not health["ready"]
        assert "had 2 partitions and has 3" in str(health["halted"])
        assert "restart every worker" in str(health["halted"])
        assert "lane halted" in caplog.text
        assert metrics.HALTED.labels("faults")._value.get() == 1
        await until(lambda: lane.consumer._closed)
        await produce(kafka.bootstrap, tp, 10)
        await produce(kafka.bootstrap, TopicPartition(other, 0), 10)
        await until(lambda: beside.positions.get(TopicPartition(other, 0)) == 10)
        assert kept.seen == {tp: list(range(10))}, "nothing was read since"
        assert not lane.crashed, "it waits for a person"
        assert second.health()["healthy"]


async def test_a_topic_made_anew_halts_the_lane_and_a_restart_begins_it(
    kafka: Kafka, topic_prefix: str
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}anew", 1)
    tp, kept = TopicPartition(topic, 0), Kept()
    await produce(kafka.bootstrap, tp, 10)
    async with reading(kafka.bootstrap, topic, kept) as lane:
        await until(lambda: kept.positions.get(tp) == 10)
        make_anew(kafka.bootstrap, topic, 1)
        await produce(kafka.bootstrap, tp, 30)  # beyond the old position: it would be gone by in silence
        await until(lambda: lane.halted)
        assert "made anew" in lane.halted
        assert kept.positions == {tp: 10}
    kept.positions.clear()  # as the group's offsets go with the topic
    async with reading(kafka.bootstrap, topic, kept):
        await until(lambda: kept.positions.get(tp) == 30)
    assert kept.seen[tp] == [*range(10), *range(30)]


async def test_a_topic_that_is_gone_halts_the_lane_and_none_begins_without_it(
    own_kafka_without_creation: KafkaServer, topic_prefix: str
) -> None:
    server = own_kafka_without_creation
    topic = server.create_topic(f"{topic_prefix}gone", 1)
    tp, kept = TopicPartition(topic, 0), Kept()
    await produce(server.bootstrap, tp, 10)
    async with reading(server.bootstrap, topic, kept) as lane:
        await until(lambda: kept.positions.get(tp) == 10)
        delete(server.bootstrap, topic)
        await until(lambda: lane.halted)
        assert "was deleted" in lane.halted
    with pytest.raises(TopicProblem, match="does not exist"):
        async with reading(server.bootstrap, topic, kept):
            pass


@pytest.fixture
def own_kafka_without_creation() -> Iterator[KafkaServer]:
    """A broker as for production: asking for a topic makes none."""
    with KafkaServer(settings={"auto.create.topics.enable": "false"}) as server:
        yield server


async def test_a_restarted_broker_and_a_rebalance_halt_nothing(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    topic = own_kafka.create_topic(f"{topic_prefix}steady", 2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    kept = Kept()
    async with reading(own_kafka.bootstrap, topic, kept) as lane:
        await produce(own_kafka.bootstrap, first, 10)
        await until(lambda: kept.positions.get(first) == 10)
        async with reading(own_kafka.bootstrap, topic, kept) as joined:
            await until(lambda: len(lane.loops) == len(joined.loops) == 1)
            assert not lane.halted
            assert not joined.halted
        await until(lambda: len(lane.loops) == 2)
        for stop in (own_kafka.stop, own_kafka.kill):
            await asyncio.to_thread(stop)
            await asyncio.to_thread(own_kafka.start)
            at = kept.positions.get(second, 0)
            await produce(own_kafka.bootstrap, second, 10)
            await until(lambda at=at: kept.positions.get(second) == at + 10)  # type: ignore[misc]
        assert lane.health()["healthy"]
        assert not lane.halted
    assert kept.seen == {first: list(range(10)), second: list(range(20))}


async def test_flags_of_a_topic_made_anew_are_taken_though_their_versions_begin_again(
    kafka: Kafka, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}flags", 1)
    tp = TopicPartition(topic, 0)
    follower = FlagFollower(kafka.bootstrap, topic)
    await follower.start()
    try:
        for version in range(1, 6):
            await produce(kafka.bootstrap, tp, 1, value=encode(flag("a", version, 50)))
        await produce(kafka.bootstrap, tp, 1, value=encode(flag("b", 3, 20)))
        await until(lambda: follower.flags.get("b") is not None)
        await until(lambda: follower._topic_id)
        make_anew(kafka.bootstrap, topic, 1)
        await produce(kafka.bootstrap, tp, 1, value=encode(flag("a", 1, 0)))
        await until(lambda: percentage(follower, "a") == 0)
        assert percentage(follower, "b") == 20, "the last known value stands"
        assert "made anew" in caplog.text
        await produce(kafka.bootstrap, tp, 1, value=encode(flag("a", 2, 10)))
        await until(lambda: percentage(follower, "a") == 10)
        await produce(kafka.bootstrap, tp, 1, value=encode(flag("a", 1, 99)))  # a replay is a replay again
        await produce(kafka.bootstrap, tp, 1, value=encode(flag("c", 1, 1)))
        await until(lambda: follower.flags.get("c") is not None)
        assert percentage(follower, "a") == 10
    finally:
        await follower.stop()


def flag(name: str, version: int, percent: float) -> Flag:
    now = datetime.now(UTC)
    return Flag(name=name, version=version, percentage=percent, seed="s", changed_at=now, changed_by="test")


def percentage(follower: FlagFollower, name: str) -> float | None:
    found = follower.flags.get(name)
    return None if found is None else found.percentage
