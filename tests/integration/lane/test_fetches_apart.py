"""A lane at a real broker asks for records no oftener than its commits need, and gets them all."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from pointsman.streams.fetches import Fetches
from pointsman.streams.lane import APART_S, Lane
from tests.integration.lane.test_lane_faults import Kept, produce, reading, until
from tests.support.kafka import Kafka

RECORDS = 150


async def test_fetches_keep_their_distance_and_nothing_is_passed_over(
    kafka: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}apart", 2)
    kept, lanes = Kept(), list[Lane]()
    real, sent = AIOKafkaClient.send, list[float]()

    async def noted(client: Any, node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, FetchRequest) and client is lanes[0].consumer._client:
            sent.append(time.monotonic())
        return await real(client, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", noted)
    began = time.monotonic()
    # A third of this interval would be more than the greatest distance.
    async with reading(kafka.bootstrap, topic, kept, made=lanes.append, commit_interval_ms=100):
        for number in range(2):
            await produce(kafka.bootstrap, TopicPartition(topic, number), RECORDS)
        await until(lambda: sum(map(len, kept.seen.values())) >= 2 * RECORDS)
    assert kept.seen == {TopicPartition(topic, number): list(range(RECORDS)) for number in range(2)}
    assert len(sent) > 5
    # One that goes out late shortens the distance to the next; their number in a time is what holds on any machine.
    assert len(sent) <= (sent[-1] - began) / APART_S + 1


async def test_a_consumer_closes_while_a_fetch_of_it_waits(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}closes", 1)
    await produce(kafka.bootstrap, TopicPartition(topic, 0), 3)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    asked = 0

    def apart_s() -> float:
        nonlocal asked
        asked += 1
        return 60.0

    Fetches(apart_s).install(consumer)
    try:
        assert len(await asyncio.wait_for(consumer.getmany(timeout_ms=10_000), 20)) == 1
        await until(lambda: asked == 2)
    finally:
        await asyncio.wait_for(consumer.stop(), 20)
