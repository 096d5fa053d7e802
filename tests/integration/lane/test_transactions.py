"""A transaction at a real broker: what passes before the commit, what in it, and one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pointsman.streams.commit import Transactional
from pointsman.streams.errors import Fenced
from pointsman.streams.output import Output
from tests.support.kafka import Kafka, console_consumer
from tests.support.producers import asking, producer


@pytest.fixture
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    async with asking(kafka.bootstrap) as client:
        yield client


@pytest.fixture
def topics(kafka: Kafka, topic_prefix: str) -> list[str]:
    return [
        kafka.create_topic(f"{topic_prefix}{name}", 1) for name in ("requests", "outcomes", "escalations")
    ]


def committer(kafka: Kafka, prefix: str, admin: AIOKafkaAdminClient) -> Transactional:
    group = f"{prefix}g"
    made = producer(kafka.bootstrap, f"{prefix}x", group)
    return Transactional(made, lambda: admin, group, (TopicPartition(f"{prefix}requests", 0),))


def output(topics: list[str], at: int) -> Output:
    """Into all topics but the first, which is read."""
    made = Output(positions={TopicPartition(topics[0], 0): at})
    for topic in topics[1:]:
        made.add(topic, 0, [(b"k", b"v%d" % at, [])])
    return made


class Wire:
    """The requests of a producer, in the order in which they leave, and how many were under way at a time."""

    def __init__(self, made: Transactional) -> None:
        self.names: list[str] = []
        self.most = self._now = 0
        self._send = made._producer.client.client.send
        made._producer.client.client.send = self._watch

    async def _watch(self, node: Any, request: Any, **options: Any) -> Any:
        self.names.append(type(request).__name__.removesuffix("Request"))
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await self._send(node, request, **options)
        finally:
            self._now -= 1


async def test_what_is_known_ahead_is_said_ahead_and_the_rest_in_order(
    kafka: Kafka, topic_prefix: str, topics: list[str], admin: AIOKafkaAdminClient
) -> None:
    made = committer(kafka, topic_prefix, admin)
    await made.open()
    try:
        await made.begin()
        await made.commit(output(topics, 1))
        wire = Wire(made)
        await made.begin()
        await asyncio.wait_for(made._producer.transactions.named(), 10)
        assert wire.names[-1] == "AddOffsetsToTxn"
        assert set(wire.names) == {"AddPartitionsToTxn", "AddOffsetsToTxn"}
        del wire.names[:]
        await made.commit(output(topics, 2))
        assert wire.names == ["Produce", "TxnOffsetCommit", "EndTxn"]
        assert wire.most == 1
    finally:
        await made.close()
    found = await asyncio.to_thread(console_consumer, kafka.bootstrap, topics[1], count=2)
    assert found == ["v1", "v2"]


@pytest.fixture
async def two(
    kafka: Kafka, topic_prefix: str, topics: list[str], admin: AIOKafkaAdminClient
) -> AsyncIterator[tuple[Transactional, Transactional]]:
    """Two owners of one partition: the first has committed once, the second is not open yet."""
    first, second = (committer(kafka, topic_prefix, admin) for _ in range(2))
    await first.open()
    try:
        await first.commit(output(topics, 1))
        yield first, second
    finally:
        await first.close()
        await second.close()


async def test_a_begun_batch_of_a_former_owner_is_fenced(
    kafka: Kafka, topics: list[str], two: tuple[Transactional, Transactional]
) -> None:
    first, second = two
    await first.begin()
    await first._producer.transactions.named()
    assert (await second.open()).positions == {TopicPartition(topics[0], 0): 1}
    with pytest.raises(Fenced):
        await first.commit(output(topics, 2))
    await second.begin()
    await second.commit(output(topics, 3))
    found = await asyncio.to_thread(console_consumer, kafka.bootstrap, topics[1], count=2)
    assert found == ["v1", "v3"]


async def test_one_that_is_fenced_before_its_batch_is_done_says_so(
    topics: list[str], two: tuple[Transactional, Transactional]
) -> None:
    first, second = two
    await second.open()
    await first.begin()
    with pytest.raises(Fenced):
        await first.commit(output(topics, 2))
