"""Ids are read back from a real partition, where ends of transactions and what was aborted take most of the offsets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from pointsman.streams import log_end as module
from pointsman.streams.decisions.duplicates import Answered, key
from pointsman.streams.decisions.remember import remember
from tests.builders import outcome
from tests.support.kafka import Kafka

IDS, IDS_MAX = 60, 40


async def test_the_newest_ids_are_read_back_past_markers_and_aborted_outcomes(
    kafka: Kafka, topic_prefix: str
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}outcomes", 1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic_prefix}x")
    await producer.start()
    try:
        for n in range(IDS):
            for id_, count in (f"aborted{n}", 3), (f"r{n}", 1):
                await producer.begin_transaction()
                made = outcome(decision_id=id_, decided_at=datetime.now(UTC), content_hash=f"{n:08x}" * 2)
                for _ in range(count):
                    await producer.send_and_wait(topic, msgspec.json.encode(made), partition=0)
                await (producer.commit_transaction() if count == 1 else producer.abort_transaction())
    finally:
        await producer.stop()
    answered = Answered(IDS_MAX, 3_600)
    await remember(kafka.bootstrap, TopicPartition(topic, 0), answered, ids_max=IDS_MAX, window_s=3_600)
    newest = range(IDS - IDS_MAX // 2, IDS)
    assert [answered.get(key(f"r{n}")) for n in newest] == list(newest)
    assert not any(answered.get(key(f"aborted{n}")) for n in range(IDS))


async def test_what_lies_behind_an_open_transaction_is_read_once_that_ends(
    kafka: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a worker that shared it among partitions: its outcome's position is committed, and it is not readable."""
    topic = kafka.create_topic(f"{topic_prefix}outcomes", 1)
    producers = [
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic_prefix}{name}")
        for name in ("open", "committed")
    ]
    answered = Answered(IDS_MAX, 3_600)
    monkeypatch.setattr(module, "QUIET_POLLS", 2)
    caplog.set_level("INFO", module.__name__)

    async def send(producer: AIOKafkaProducer, id_: str) -> None:
        made = outcome(decision_id=id_, decided_at=datetime.now(UTC), content_hash="0f" * 8)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, msgspec.json.encode(made), partition=0)

    try:
        for producer, id_ in zip(producers, ("given up", "committed"), strict=True):
            await producer.start()
            await send(producer, id_)
        await producers[1].commit_transaction()
        reading = asyncio.create_task(
            remember(kafka.bootstrap, TopicPartition(topic, 0), answered, ids_max=IDS_MAX, window_s=3_600)
        )
        done, _ = await asyncio.wait({reading}, timeout=1.0)
        assert not done
        assert "nothing to read yet: a transaction may be open" in caplog.text
        await producers[0].abort_transaction()
        assert await asyncio.wait_for(reading, 30) == 1
    finally:
        await asyncio.gather(*(producer.stop() for producer in producers))
    assert answered.get(key("committed")) is not None
    assert answered.get(key("given up")) is None
