"""Promises that need a real broker and have no other place: where outcomes lie, and who may write a flag."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from aiokafka.errors import KafkaError

from pointsman.schemas.codec import Decoder
from pointsman.schemas.outcome import Outcome
from pointsman.streams.flags import Flags, FlagWriter
from tests.support.kafka import Kafka
from tests.support.pipeline import Pipeline, request


async def test_outcomes_lie_beside_their_requests_in_their_order(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    pipeline.worker(batch_records_max="7").wait_ready()
    pipeline.send(request(number, unit=f"u{number % 17}") for number in range(300))
    sent = pipeline.read(pipeline.names.requests, lambda found: len(found) >= 300)

    messages = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 300)

    places = {each.value(): (each.partition(), each.offset()) for each in sent}
    assert len({partition for partition, _ in places.values()}) > 1
    by_partition: dict[int, list[int]] = {}
    for message in messages:
        outcome = Decoder(Outcome).decode(message.value())
        assert message.key().decode() == outcome.decision_id
        assert message.partition() == outcome.place.partition
        by_partition.setdefault(message.partition(), []).append(outcome.place.offset)
    assert sorted((p, o) for p, offsets in by_partition.items() for o in offsets) == sorted(places.values())
    for offsets in by_partition.values():
        assert all(before < after for before, after in pairwise(offsets))


class Slow(FlagWriter):
    """Stands still between fencing the others and writing, as a process that was paused."""

    def __init__(self, servers: str, topic: str, *, group: str) -> None:
        super().__init__(servers, topic, group=group)
        self.reached = asyncio.Event()
        self.resume = asyncio.Event()

    async def read(self) -> Flags:
        flags = await super().read()
        self.reached.set()
        await self.resume.wait()
        return flags


async def test_a_writer_of_flags_that_was_overtaken_writes_nothing(kafka: Kafka, topic_prefix: str) -> None:
    topic = f"{topic_prefix}control-flags"
    kafka.create_topic(topic, 1)
    slow = Slow(kafka.bootstrap, topic, group=topic_prefix)
    quick = FlagWriter(kafka.bootstrap, topic, group=topic_prefix)
    overtaken = asyncio.create_task(slow.set("f", 90, by="slow"))
    await slow.reached.wait()
    await quick.set("f", 10, by="quick")
    slow.resume.set()
    with pytest.raises(KafkaError):
        await overtaken
    (flag,) = (await quick.read()).all()
    assert (flag.percentage, flag.version, flag.changed_by) == (10, 1, "quick")
