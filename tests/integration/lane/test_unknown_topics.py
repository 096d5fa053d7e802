"""A lane that joins its group while the broker goes: its topics are asked for again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from pointsman.streams.lane import Lane
from tests.integration.lane.test_lane_faults import WAIT_S, Kept, produce, reading
from tests.support.kafka import Kafka


async def test_who_leads_a_group_without_knowing_its_topics_asks_for_them_and_shares_them_out(
    kafka: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}asked", 2)
    kept, real = Kept(), AIOKafkaClient._metadata_update
    lanes: list[Lane] = []
    shared: list[tuple[int, bool]] = []

    async def fails_until_partitions_were_shared_out(client: Any, cluster: Any, topics: Any) -> Any:
        ours = [lane for lane in lanes if lane.consumer._client is client]
        if topics and ours and not ours[0].assigned:
            return False  # as when the broker went
        return await real(client, cluster, topics)

    def made(lane: Lane) -> None:
        lanes.append(lane)
        own = lane.own

        def noted(assigned: Any) -> None:
            own(assigned)
            shared.append((len(lane.loops), bool(lane.health()["ready"])))

        monkeypatch.setattr(lane, "own", noted)

    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", fails_until_partitions_were_shared_out)
    async with reading(kafka.bootstrap, topic, kept, made=made) as lane:
        await produce(kafka.bootstrap, TopicPartition(topic, 1), 3)
        async with asyncio.timeout(WAIT_S):
            while not (kept.seen and lane.health()["ready"]):
                await asyncio.sleep(0.05)
    assert kept.seen == {TopicPartition(topic, 1): [0, 1, 2]}
    assert shared[0] == (0, False), "nothing at first, and that is not called ready"
    assert shared[-1][0] == 2
