"""The bare loop that latencies are compared with: `python -m benchmarks.load.bare JSON`.

Consume, copy, produce in hand-built batches, commit in one transaction; not sooner than the commit interval.
It decides nothing, and one producer serves all partitions.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pointsman.streams.lane import POLL_MS
from pointsman.streams.producer import RETRY_MS, clients_batches
from pointsman.streams.record_batch import BATCH_BYTES
from pointsman.streams.source import FETCH_BYTES


@dataclass(frozen=True)
class Bare:
    """From one topic to another of as many partitions."""

    servers: str
    source: str
    target: str
    group: str
    interval_s: float
    fetch_wait_ms: int


async def main(task: Bare) -> None:
    """Copy until a SIGTERM comes."""
    # While the broker still ends the transaction before, it says so to every produce request; the client tries again.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Nothing is ever written to it: readable means that whoever measures is gone, and perhaps the broker with it.
    loop.add_reader(sys.stdin.fileno(), os._exit, 1)
    consumer = AIOKafkaConsumer(
        task.source,
        bootstrap_servers=task.servers,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=task.fetch_wait_ms,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=task.servers,
        transactional_id=f"{task.group}-bare",
        max_batch_size=BATCH_BYTES,
        linger_ms=0,
        acks="all",
        retry_backoff_ms=RETRY_MS,
    )
    await producer.start()
    await consumer.start()
    await consumer.seek_to_committed()
    print("ready", flush=True)
    gc.collect()
    gc.freeze()
    while not stop.is_set():
        await _step(task, consumer, producer)
    await consumer.stop()
    await producer.stop()


async def _step(task: Bare, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
    fetched = await consumer.getmany(timeout_ms=POLL_MS)
    if not fetched:
        return
    began = time.monotonic()
    await producer.begin_transaction()
    sent = []
    for tp, records in fetched.items():
        for batch in clients_batches(producer, [(record.key, record.value, []) for record in records]):
            sent.append(await producer.send_batch(batch, task.target, partition=tp.partition))
    positions = {tp: records[-1].offset + 1 for tp, records in fetched.items()}
    await producer.send_offsets_to_transaction(positions, task.group)
    await asyncio.gather(*sent)
    await producer.commit_transaction()
    await asyncio.sleep(max(0.0, task.interval_s - (time.monotonic() - began)))


if __name__ == "__main__":
    uvloop.run(main(Bare(**json.loads(sys.argv[1]))))
