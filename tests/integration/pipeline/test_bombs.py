"""Records that inflate to 300 MB, and batches that make no sense: bounded memory, one dead letter, all else served."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.support import batches
from tests.support.pipeline import Pipeline, account, request

HUGE = 300_000_000
BROKER_BYTES = 20_000_000
"""Snappy shrinks zeros to a twentieth only: the topic must take such a batch."""
MIB = 1024 * 1024
PEAK_MIB = 150
"""What one bound of 64 MiB may add: the buffer that is written until it is full, and change."""


def huge(codec: str, pairs: list[batches.Pair]) -> bytes:
    """A batch of small records and, behind the first, one of 300 MB; of 100 where the broker holds it whole too."""
    size = HUGE // 3 if codec == "snappy" else HUGE
    return batches.made(codec, [pairs[0], (b"huge", bytes(size)), *pairs[1:]])


def allow_large(pipeline: Pipeline, topic: str) -> None:
    entry = ConfigEntry("max.message.bytes", str(BROKER_BYTES), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result(30)


def headers(letter: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers()}


CODECS = ("gzip", "snappy", "xerial", "lz4", "zstd")


async def test_a_huge_record_in_a_small_batch_is_a_dead_letter_and_takes_no_memory(
    pipeline: Pipeline,
) -> None:
    await pipeline.prepare()
    names = pipeline.names
    allow_large(pipeline, names.requests)
    worker = pipeline.worker("decisions").wait_ready()
    pipeline.send([request(number) for number in range(100)], partition=1)
    pipeline.read(names.outcomes, lambda found: len(found) >= 100)
    before = worker.peak_mib()
    wanted = {}
    for place, codec in enumerate(CODECS):
        bomb = huge(codec, [request(f"lost-1-{codec}"), request(f"lost-2-{codec}")])
        (at,) = await batches.put(pipeline.bootstrap, names.requests, 1, bomb)
        wanted[at] = len(bomb) - batches.HEADER.size
        start = 100 + 40 * place
        pipeline.send([request(number) for number in range(start, start + 20)], partition=1)
        pipeline.send([request(number) for number in range(start + 20, start + 40)], partition=2)

    outcomes = pipeline.read(names.outcomes, lambda found: len(found) >= 300)
    found = account((f"r-{number}" for number in range(300)), (each.key().decode() for each in outcomes))
    assert found.clean, found
    letters = pipeline.read(names.dead_letters, lambda found: len(found) >= len(CODECS))
    assert {int(headers(each)["offset"]): json.loads(each.value())["bytes"] for each in letters} == wanted
    for letter in letters:
        said, told = headers(letter), json.loads(letter.value())
        assert (said["reason"], said["topic"], said["partition"]) == ("too_large_batch", names.requests, "1")
        assert (told["last_offset"], told["records"]) == (told["offset"] + 2, 3)
    assert worker.peak_mib() - before < PEAK_MIB, "as much as the bound allows"


async def test_without_the_bound_it_would_take_the_memory(pipeline: Pipeline) -> None:
    """The measuring stick measures."""
    await pipeline.prepare()
    names = pipeline.names
    worker = pipeline.worker("decisions", batch_inflated_bytes_max=str(400 * MIB)).wait_ready()
    before = worker.peak_mib()
    await batches.put(pipeline.bootstrap, names.requests, 1, huge("zstd", [request(1), request(2)]))
    outcomes = pipeline.read(names.outcomes, lambda found: len(found) >= 2)
    assert sorted(each.key() for each in outcomes) == [b"r-1", b"r-2"], (
        "and its small records would be served"
    )
    (letter,) = pipeline.read(names.dead_letters, lambda found: len(found) >= 1)
    assert headers(letter)["reason"] == "too_large"
    assert worker.peak_mib() - before > HUGE // MIB


async def test_bombs_in_every_partition_and_topic_through_kills(pipeline: Pipeline) -> None:
    """The letter and the position are one transaction: killed at any moment, each bomb has one letter."""
    await pipeline.prepare()
    names = pipeline.names
    allow_large(pipeline, names.requests)
    bombs = {codec: batches.made(codec, [(b"k", bytes(100 * MIB))]) for codec in CODECS}
    placed = set()
    for partition in range(4):
        for round_, bomb in enumerate(bombs.values()):
            keys = range(1000 * partition + 20 * round_, 1000 * partition + 20 * round_ + 20)
            pipeline.send([request(number) for number in keys], partition=partition)
            (at,) = await batches.put(pipeline.bootstrap, names.requests, partition, bomb)
            placed.add((names.requests, partition, at))
    for topic, codec in ((names.feedback, "zstd"), (names.outcomes, "lz4"), (names.flags, "gzip")):
        await batches.put(pipeline.bootstrap, topic, 0, bombs[codec])
    placed.add((names.feedback, 0, 0))
    await pipeline.flag("ml-agent-rollout", 0)
    for pause_s in (0.0, 0.5):
        worker = pipeline.worker("decisions,sink").wait_ready()
        await asyncio.sleep(pause_s)
        worker.kill()
    worker = pipeline.worker("decisions,sink").wait_ready()

    wanted = [f"r-{1000 * partition + number}" for partition in range(4) for number in range(100)]
    outcomes = pipeline.read(names.outcomes, lambda found: len(found) >= len(wanted))
    found = account(wanted, (each.key().decode() for each in outcomes if each.key() != b"k"))
    assert found.clean, found
    letters = pipeline.read(
        names.dead_letters,
        lambda found: placed <= set(map(place, found)),
        shown=lambda found: f"without {placed - set(map(place, found))}: {len(found)}",
    )
    places = [place(each) for each in letters]
    assert set(places) == placed
    decisions = [each for each in places if each[0] == names.requests]
    assert len(decisions) == len(set(decisions)), "once each"
    pipeline.wait_rows("SELECT count(*) FROM ml_learning.agent_decisions", len(wanted))
    pipeline.wait_rows("SELECT coalesce(sum(dead_letters), 0) FROM ml_learning.lane_ledger", 20)
    health = worker.report("health")
    assert health["healthy"], health
    assert health["flags"] == {"ml-agent-rollout": 0}, "the follower went on behind the bomb"


def place(letter: Any) -> tuple[str, int, int]:
    said = headers(letter)
    assert said["reason"] == "too_large_batch"
    return said["topic"], int(said["partition"]), int(said["offset"])


async def test_a_batch_that_makes_no_sense_is_passed_over(
    own_kafka: Any, database: str, tmp_path: Path
) -> None:
    """The broker refuses such a batch from a producer; so a good one is made bad on its disk, its checksum right."""
    pipeline = Pipeline(own_kafka.bootstrap, database, "bad-", tmp_path)
    await pipeline.prepare()
    names = pipeline.names
    good = batches.made("zstd", [request("in-it-1"), request("in-it-2")])
    pipeline.send([request(1)], partition=0)
    (at,) = await batches.put(pipeline.bootstrap, names.requests, 0, good)
    pipeline.send([request(2)], partition=0)
    own_kafka.stop()
    (segment,) = (own_kafka.folder / "data" / f"{names.requests}-0").glob("*.log")
    replace_payload(segment, good)
    own_kafka.start()
    pipeline.worker("decisions").wait_ready()
    try:
        outcomes = pipeline.read(names.outcomes, lambda found: len(found) >= 2)
        assert sorted(each.key() for each in outcomes) == [b"r-1", b"r-2"]
        (letter,) = pipeline.read(names.dead_letters, lambda found: len(found) >= 1)
        assert headers(letter)["reason"] == "corrupt_batch"
        told = json.loads(letter.value())
        assert (told["offset"], told["last_offset"], told["records"]) == (at, at + 1, 2)
    finally:
        pipeline.close()


def replace_payload(segment: Path, good: bytes) -> None:
    """In a stopped broker's log, make the records of a batch nonsense of the same length."""
    raw = bytearray(segment.read_bytes())
    payload = good[batches.HEADER.size :]
    start = raw.index(payload)
    head = start - batches.HEADER.size
    raw[start : start + len(payload)] = b"\x99" * len(payload)
    body = bytes(raw[head + batches.ATTRIBUTES_AT : start + len(payload)])
    crc = batches.calc_crc32c(body).to_bytes(4, "big")
    raw[head + batches.CRC_AT : head + batches.CRC_AT + 4] = crc
    with segment.open("r+b") as file:
        file.write(raw)
        os.fsync(file.fileno())
