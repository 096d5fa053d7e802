"""The embedded Kafka does what the pipeline asks of a broker, and its limits are the ones stated."""

from collections.abc import AsyncIterator

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pointsman.streams.embedded import EmbeddedKafka
from pointsman.streams.embedded.kafka import PARTITIONS_OF_A_NEW_TOPIC, RETAINED_BYTES_A_PARTITION
from tests.support.sockets import listening

MESSAGE_BYTES = 900_000  # just under the usual limit of a request


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedKafka]:
    async with EmbeddedKafka(topics={"six": 6}) as server:
        yield server


@pytest.fixture
async def producer(embedded: EmbeddedKafka) -> AsyncIterator[aiokafka.AIOKafkaProducer]:
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=embedded.bootstrap, enable_idempotence=True
    ) as each:
        yield each


def reader(bootstrap: str, *topics: str) -> aiokafka.AIOKafkaConsumer:
    return aiokafka.AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id="readers",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


async def test_a_group_reads_what_an_idempotent_producer_wrote(
    embedded: EmbeddedKafka, producer: aiokafka.AIOKafkaProducer
) -> None:
    sent = {f"v{number}".encode() for number in range(12)}
    for number, value in enumerate(sorted(sent)):
        await producer.send_and_wait("six", value, key=b"k", partition=number % 6, headers=[("h", b"x")])
    async with reader(embedded.bootstrap, "six") as consumer:
        records = [await consumer.getone() for _ in sent]
    assert {record.value for record in records} == sent
    assert {(record.key, record.headers) for record in records} == {(b"k", (("h", b"x"),))}


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_it_carries_every_compression(embedded: EmbeddedKafka, compression: str) -> None:
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=embedded.bootstrap, compression_type=compression
    ) as producer:
        await producer.send_and_wait("six", b"v" * 1000, partition=0)
    async with reader(embedded.bootstrap, "six") as consumer:
        assert (await consumer.getone()).value == b"v" * 1000


async def test_readers_that_assign_themselves_share_a_groups_offsets_and_metadata(
    embedded: EmbeddedKafka, producer: aiokafka.AIOKafkaProducer
) -> None:
    """The way that the pipeline reads here: two readers at once, and one that comes later, without a join."""
    low, high = TopicPartition("six", 0), TopicPartition("six", 3)
    kept = OffsetAndMetadata(1, '{"agent":"é","counter":123456789}' + "x" * 2000)
    await producer.send_and_wait("six", b"v", partition=0)
    await producer.send_and_wait("six", b"v", partition=3)
    async with reader(embedded.bootstrap) as one, reader(embedded.bootstrap) as other:
        for consumer, place in ((one, low), (other, high)):
            consumer.assign([place])
            assert (await consumer.getone()).partition == place.partition
            await consumer.commit({place: kept})
    async with reader(embedded.bootstrap) as later:
        later.assign([low, high])
        assert later._coordinator is not None
        assert await later._coordinator.fetch_committed_offsets([low, high]) == {low: kept, high: kept}
        assert await later.position(high) == 1


async def test_topics_have_the_partitions_asked_for_and_new_ones_the_stated_number(
    producer: aiokafka.AIOKafkaProducer,
) -> None:
    assert await producer.partitions_for("six") == set(range(6))
    assert await producer.partitions_for("never-seen") == set(range(PARTITIONS_OF_A_NEW_TOPIC))


async def test_it_lists_topics_and_offsets(
    embedded: EmbeddedKafka, producer: aiokafka.AIOKafkaProducer
) -> None:
    await producer.send_and_wait("six", b"v", partition=0)
    admin = AIOKafkaAdminClient(bootstrap_servers=embedded.bootstrap)
    await admin.start()
    try:
        assert await admin.list_topics() == ["six"]
    finally:
        await admin.close()
    place = TopicPartition("six", 0)
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=embedded.bootstrap) as consumer:
        assert await consumer.beginning_offsets([place]) == {place: 0}
        assert await consumer.end_offsets([place]) == {place: 1}


async def test_a_partition_keeps_the_stated_bytes_and_no_more(
    embedded: EmbeddedKafka, producer: aiokafka.AIOKafkaProducer
) -> None:
    count = 2 * RETAINED_BYTES_A_PARTITION // MESSAGE_BYTES
    for _ in range(count):
        await producer.send_and_wait("six", b"z" * MESSAGE_BYTES, partition=0)
    place = TopicPartition("six", 0)
    async with aiokafka.AIOKafkaConsumer(bootstrap_servers=embedded.bootstrap) as consumer:
        first = (await consumer.beginning_offsets([place]))[place]
    assert count - first == RETAINED_BYTES_A_PARTITION // MESSAGE_BYTES


def test_it_listens_on_loopback_only(embedded: EmbeddedKafka) -> None:
    places = listening(embedded.pid)
    assert places == [embedded.bootstrap]
    assert embedded.bootstrap.startswith("127.0.0.1:")


async def test_two_at_once_do_not_see_each_others_messages(
    producer: aiokafka.AIOKafkaProducer,
) -> None:
    async with EmbeddedKafka() as other:
        await producer.send_and_wait("six", b"v", partition=0)
        admin = AIOKafkaAdminClient(bootstrap_servers=other.bootstrap)
        await admin.start()
        assert await admin.list_topics() == []
        await admin.close()


def test_an_impossible_topic_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'none'"):
        EmbeddedKafka(topics={"none": 0})


def test_its_address_is_known_only_while_it_runs() -> None:
    server = EmbeddedKafka()
    with server:
        assert server.bootstrap
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.bootstrap
