"""Ids are read back from a real partition, where ends of transactions and what was aborted take most of the offsets."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from pointsman.streams.decisions.duplicates import Answered, key, short
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
    assert [answered.get(key(f"r{n}")) for n in newest] == [short(f"{n:08x}") for n in newest]
    assert not any(answered.get(key(f"aborted{n}")) for n in range(IDS))
