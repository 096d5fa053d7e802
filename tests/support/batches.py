"""Kafka record batches made by hand: what no client would send, with a right or a wrong checksum."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import cramjam
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c, encode_varint

HEADER = struct.Struct(">qiibIhiqqqhii")
CRC_AT = 17
ATTRIBUTES_AT = 21
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TIME_MS = round(time.time() * 1000)
"""Of every record. A broker takes away what is older than its retention, within minutes, whether it was read or not."""

Pair = tuple[bytes | None, bytes | None]


def pack(codec: str, payload: bytes, count: int, *, base: int = 0) -> bytes:
    """A batch around compressed records, whatever they are; ``count`` as its header says."""
    attributes = CODECS[codec]
    size = HEADER.size - 12 + len(payload)
    head = (base, size, -1, 2, 0, attributes, count - 1, TIME_MS, TIME_MS, -1, -1, -1, count)
    raw = bytearray(HEADER.pack(*head) + payload)
    struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[ATTRIBUTES_AT:])))
    return bytes(raw)


def records(pairs: Sequence[Pair]) -> bytes:
    """The records of a batch, not compressed."""
    return b"".join(_record(place, key, value) for place, (key, value) in enumerate(pairs))


def _record(place: int, key: bytes | None, value: bytes | None) -> bytes:
    body = bytearray(b"\x00\x00")
    encode_varint(place, body.append)
    for part in (key, value):
        encode_varint(-1 if part is None else len(part), body.append)
        body += part or b""
    body.append(0)
    length = bytearray()
    encode_varint(len(body), length.append)
    return bytes(length + body)


def compress(codec: str, data: bytes) -> bytes:
    """As clients do; ``xerial`` is snappy in the blocks of Java."""
    return {
        "none": lambda: data,
        "gzip": lambda: gzip_encode(data),
        "snappy": lambda: bytes(snappy_encode(data, xerial_compatible=False)),
        "xerial": lambda: snappy_encode(data),
        "lz4": lambda: lz4_encode(data),
        "zstd": lambda: bytes(cramjam.zstd.compress(data)),
    }[codec]()


def made(codec: str, pairs: Sequence[Pair], *, base: int = 0) -> bytes:
    """A good batch of these records."""
    name = "snappy" if codec == "xerial" else codec
    return pack(name, compress(codec, records(pairs)), len(pairs), base=base)


def ours(pairs: Sequence[Pair]) -> bytes:
    """The same by aiokafka's builder: what the one above must agree with."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**31)
    for place, (key, value) in enumerate(pairs):
        builder.append(place, TIME_MS, key, value, [])
    return bytes(builder.build())


def read(batch: bytes) -> list[Pair]:
    """Keys and values of a batch as aiokafka reads them, its checksum checked."""
    found = MemoryRecords(batch).next_batch()
    assert found.validate_crc()
    return [(each.key, each.value) for each in found]


async def put(bootstrap: str, topic: str, partition: int, *raw: bytes) -> list[int]:
    """Send batches as they are, past every client's own checks; the base offsets that the broker gave."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.partitions_for(topic)
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        offsets = []
        for each in raw:
            request = ProduceRequest(None, -1, 30_000, [(topic, [(partition, each)])])
            answer = await producer.client.send(node, request)
            (_, code, offset, *_rest) = answer.topics[0][1][0]
            assert code == 0, f"the broker refused a batch: {for_code(code).__name__}"
            offsets.append(offset)
        return offsets
    finally:
        await producer.stop()
