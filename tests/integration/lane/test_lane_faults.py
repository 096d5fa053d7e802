"""A lane against a broker that is harmed: unreadable records, a frozen process, records that retention took."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from pointsman.schemas.codec import encode
from pointsman.schemas.control import Flag
from pointsman.streams import flags, metrics
from pointsman.streams import reading as streams_reading
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.settings import Settings
from tests.support.kafka import Kafka, KafkaServer

WAIT_S = 20
"""For what takes a second or two when the machine is idle."""


class Kept:
    """Positions and offsets as a data base would keep them: they outlive every loop."""

    def __init__(self, positions: dict[TopicPartition, int] | None = None) -> None:
        self.positions: dict[TopicPartition, int] = dict(positions or {})
        self.seen: dict[TopicPartition, list[int]] = {}
        self.gate = asyncio.Event()
        """While it is closed, commits wait."""
        self.gate.set()


class Reader:
    """Work and committer of one partition: what was read is kept."""

    def __init__(self, kept: Kept, tp: TopicPartition) -> None:
        self.kept = kept
        self.tp = tp

    async def restore(self, committed: Committed) -> None:
        pass

    def due(self) -> float | None:
        return None

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:
        records = batch.get(self.tp)
        if not records:
            return Output()
        offsets = [record.offset for record in records]
        return Output(positions={self.tp: offsets[-1] + 1}, payload=offsets)

    async def open(self) -> Committed:
        return Committed({self.tp: self.kept.positions.get(self.tp)})

    async def begin(self) -> None:
        pass

    async def commit(self, output: Output) -> None:
        await self.kept.gate.wait()
        self.kept.positions.update(output.positions)
        offsets: Any = output.payload
        self.kept.seen.setdefault(self.tp, []).extend(offsets)

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def reading(
    bootstrap: str, topic: str, kept: Kept, made: Callable[[Lane], None] = lambda _: None, **settings: Any
) -> AsyncIterator[Lane]:
    """A lane that runs; ``made`` gets it before it starts."""
    settings = {"session_timeout_ms": 6_000, "drain_s": 1, **settings}

    def factory(_lane: Lane, _number: int, owned: tuple[TopicPartition, ...]) -> Any:
        reader = Reader(kept, owned[0])
        return reader, lambda: reader

    lane = Lane(
        name="faults",
        topics=[topic],
        group=f"{topic}-readers",
        servers=bootstrap,
        settings=Settings(**settings),
        factory=factory,
    )
    made(lane)
    await lane.start()
    try:
        yield lane
    finally:
        await lane.stop()


async def produce(
    bootstrap: str, tp: TopicPartition, count: int, *, value: bytes = b"x" * 100, key: bytes | None = None
) -> None:
    """Send records, each in a batch of its own."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0) as producer:
        for _ in range(count):
            await producer.send_and_wait(tp.topic, value, key=key, partition=tp.partition)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


async def take_away(bootstrap: str, tp: TopicPartition, before: int) -> None:
    """What retention does: the log begins later."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()


def lost(topic: str) -> float:
    return float(metrics.LOST.labels(topic)._value.get())


def spoil(server: KafkaServer, tp: TopicPartition, batch: int, of: int) -> None:
    """Flip a bit in one of the batches of equal size that a partition's only segment holds."""
    (segment,) = (server.folder / "data" / f"{tp.topic}-{tp.partition}").glob("*.log")
    size = segment.stat().st_size // of
    with segment.open("r+b") as file:
        file.seek(size * (batch + 1) - 20)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))


def unpack_last(lane: Lane, tp: TopicPartition) -> None:
    """Let the records of a fetch be unpacked with this partition's at the end.

    The order is otherwise that of a set; an error costs the others their records only if they came before it.
    """
    fetcher = lane.consumer._fetcher
    fetched_records = fetcher.fetched_records

    async def ordered(partitions: Any, *timeout: float, **options: Any) -> Any:
        for _ in range(0 if partitions else 20):
            if tp in fetcher._records and len(fetcher._records) > 1:
                fetcher._records[tp] = fetcher._records.pop(tp)
                break
            await asyncio.sleep(0.01)
        return await fetched_records(partitions, *timeout, **options)

    fetcher.fetched_records = ordered


# -- what cannot be read -------------------------------------------------------------------------


async def test_an_unreadable_batch_of_one_partition_costs_the_others_no_record(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    topic = own_kafka.create_topic(f"{topic_prefix}spoiled", 3)
    sound, other, broken = (TopicPartition(topic, number) for number in range(3))
    await produce(own_kafka.bootstrap, broken, 20)
    for tp in (sound, other):
        await produce(own_kafka.bootstrap, tp, 150)
    spoil(own_kafka, broken, 5, of=20)
    kept = Kept()
    async with reading(own_kafka.bootstrap, topic, kept, stalled_after_s=2) as lane:
        unpack_last(lane, broken)
        for _ in range(5):  # the error comes again and again, between fetches of the others
            await produce(own_kafka.bootstrap, sound, 20)
            await produce(own_kafka.bootstrap, other, 20)
        await until(lambda: kept.positions.get(sound) == kept.positions.get(other) == 250)
        assert kept.seen[sound] == kept.seen[other] == list(range(250)), "each once, and in order"
        await until(lambda: lane.health()["stalled_partitions"] == [2])
        await until(lambda: lane.health()["failures"])
        health = lane.health()
        assert not health["healthy"]
        assert list(health["failures"]) == [2]  # type: ignore[call-overload]
        assert kept.positions.get(broken, 0) <= 5, "nothing is passed over"


# -- a broker that says nothing ------------------------------------------------------------------


async def test_a_frozen_broker_is_not_taken_for_idleness_and_work_goes_on_once_it_is_back(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    topic = own_kafka.create_topic(f"{topic_prefix}frozen", 1)
    tp = TopicPartition(topic, 0)
    await produce(own_kafka.bootstrap, tp, 10)
    kept = Kept()
    async with reading(own_kafka.bootstrap, topic, kept, stalled_after_s=2) as lane:
        await until(lambda: kept.positions.get(tp) == 10 and lane.loops[0].known)
        assert lane.health()["healthy"]
        with own_kafka.frozen():
            await until(lambda: not lane.health()["healthy"])
            assert lane.health()["stalled_partitions"] == [0]
        await until(lambda: lane.health()["healthy"])
        await produce(own_kafka.bootstrap, tp, 10)
        await until(lambda: kept.positions.get(tp) == 20)
    assert kept.seen[tp] == list(range(20))


async def test_flags_of_a_frozen_broker_are_not_called_current(
    own_kafka: KafkaServer, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flags, "SILENCE_S", 1.0)
    topic = own_kafka.create_topic(f"{topic_prefix}flags", 1, {"cleanup.policy": "compact"})
    await produce(own_kafka.bootstrap, TopicPartition(topic, 0), 1, value=encode(_flag("f")), key=b"f")
    follower = FlagFollower(own_kafka.bootstrap, topic)
    await follower.start()
    try:
        await until(lambda: metrics.FLAGS_CURRENT._value.get() == 1 and follower.flags.get("f"))
        known = follower.flags.all()
        with own_kafka.frozen():
            await until(lambda: metrics.FLAGS_CURRENT._value.get() == 0)
            assert follower.flags.all() == known
        await until(lambda: metrics.FLAGS_CURRENT._value.get() == 1)
        assert follower.flags.all() == known
    finally:
        await follower.stop()


async def test_flags_are_read_anew_after_their_consumer_has_died(
    kafka: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumers: list[Any] = []

    class Watched(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            consumers.append(self)

    monkeypatch.setattr(streams_reading, "AIOKafkaConsumer", Watched)
    tp = TopicPartition(kafka.create_topic(f"{topic_prefix}flags", 1), 0)
    follower = FlagFollower(kafka.bootstrap, tp.topic)
    await follower.start()
    try:
        await until(follower.current.is_set)
        await produce(kafka.bootstrap, tp, 1, value=encode(_flag("f")))
        await until(lambda: metrics.FLAGS_CURRENT._value.get() == 1 and follower.flags.get("f"))
        known = follower.flags.get("f")
        await take_away(kafka.bootstrap, tp, 1)  # or it would come back with the next reading
        consumers[0]._fetcher._get_actions_per_node = _unreadable
        await until(lambda: metrics.FLAGS_CURRENT._value.get() == 0)
        await produce(kafka.bootstrap, tp, 1, value=encode(_flag("g")))
        await until(lambda: metrics.FLAGS_CURRENT._value.get() == 1 and follower.flags.get("g"))
        assert len(consumers) == 2
        assert follower.flags.get("f") == known
    finally:
        await follower.stop()


async def test_a_lane_whose_consumer_dies_crashes(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}dies", 1)
    tp = TopicPartition(topic, 0)
    await produce(kafka.bootstrap, tp, 10)
    kept = Kept()
    async with reading(kafka.bootstrap, topic, kept) as lane:
        await until(lambda: kept.positions.get(tp) == 10)
        lane.consumer._fetcher._get_actions_per_node = _unreadable
        await until(lambda: lane.crashed)
        assert "has died" in str(lane.crash_reason)


def _unreadable(*_args: Any) -> Any:
    raise ValueError("a response that cannot be read")


def _flag(name: str) -> Flag:
    return Flag(name=name, version=1, percentage=5, seed="s", changed_at=datetime.now(UTC), changed_by="test")


# -- what is no longer there ---------------------------------------------------------------------


async def test_what_retention_took_before_the_start_is_counted_and_the_rest_is_read(
    kafka: Kafka, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}taken", 1)
    tp = TopicPartition(topic, 0)
    await produce(kafka.bootstrap, tp, 100)
    await take_away(kafka.bootstrap, tp, 60)
    kept = Kept({tp: 10})
    async with reading(kafka.bootstrap, topic, kept):
        await until(lambda: kept.positions[tp] == 100)
    assert kept.seen[tp] == list(range(60, 100))
    assert lost(topic) == 50
    assert "retention took records" in caplog.text


async def test_what_retention_takes_from_a_lane_that_lags_is_counted_and_the_rest_is_read(
    kafka: Kafka, topic_prefix: str
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}lags", 1)
    tp = TopicPartition(topic, 0)
    await produce(kafka.bootstrap, tp, 10)
    kept = Kept()
    async with reading(kafka.bootstrap, topic, kept) as lane:
        await until(lambda: kept.positions.get(tp) == 10)
        await produce(kafka.bootstrap, tp, 90)
        await until(lambda: kept.positions.get(tp) == 100)
        await take_away(kafka.bootstrap, tp, 60)
        kept.positions[tp] = 20  # as if the last eighty had been fetched by nobody yet
        lane.loops[0].expected[tp] = 20
        lane.consumer.seek(tp, 20)
        await produce(kafka.bootstrap, tp, 1)
        await until(lambda: kept.positions.get(tp) == 101)
        assert lane.health()["failures"] == {}
    assert kept.seen[tp] == [*range(100), *range(60, 101)]
    assert lost(topic) == 40


async def test_nothing_that_was_never_committed_counts_as_lost(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}fresh", 1)
    tp = TopicPartition(topic, 0)
    await produce(kafka.bootstrap, tp, 30)
    await take_away(kafka.bootstrap, tp, 20)
    kept = Kept()
    async with reading(kafka.bootstrap, topic, kept):
        await until(lambda: kept.positions.get(tp) == 30)
    assert kept.seen[tp] == list(range(20, 30))
    assert lost(topic) == 0


async def test_a_position_beyond_the_end_stops_the_partition_and_is_said(
    kafka: Kafka, topic_prefix: str
) -> None:
    topic = kafka.create_topic(f"{topic_prefix}anew", 1)
    tp = TopicPartition(topic, 0)
    await produce(kafka.bootstrap, tp, 10)
    kept = Kept({tp: 11})
    async with reading(kafka.bootstrap, topic, kept, stalled_after_s=2) as lane:
        await until(lambda: lane.health()["failures"])
        failures: Any = lane.health()["failures"]
        assert failures[0].startswith("TopicProblem: ")
        await until(lambda: not lane.health()["healthy"])
    assert kept.seen == {}
    assert kept.positions == {tp: 11}
