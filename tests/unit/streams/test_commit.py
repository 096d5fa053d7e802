"""How a batch of messages is packed for the broker."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from pointsman.streams.commit import Transactional, batches
from pointsman.streams.settings import Settings

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""The lowest three bits of a record batch's attributes (Kafka protocol, record batch format)."""


@pytest.mark.parametrize("compression", CODECS)
async def test_batches_are_compressed_as_set(compression: str) -> None:
    committer = Transactional(
        servers="127.0.0.1:1",
        group="g",
        transactional_id="t",
        partitions=(TopicPartition("t", 0),),
        settings=Settings(compression=compression),  # type: ignore[arg-type]
        admin=lambda: pytest.fail("not asked"),
    )
    (batch,) = batches(committer._producer, [(b"key", b"value " * 1_000, [])] * 3)
    batch._build()
    packed = bytes(batch._buffer)
    assert int.from_bytes(packed[21:23], "big") & 7 == CODECS[compression]
    assert (len(packed) < 6_000) is (compression != "none")
