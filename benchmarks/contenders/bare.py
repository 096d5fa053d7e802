"""The usual loop: `getmany`, `send` each, gather, commit. Identity, at least once, no decision."""

from __future__ import annotations

import asyncio

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.task import Meter, Task


async def main(task: Task) -> None:
    """Copy all messages to the outcomes topic."""
    consumer = AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.servers,
        group_id=f"bare-{task.run}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=task.servers, linger_ms=5)
    await producer.start()
    await consumer.start()
    meter, done = Meter(), 0
    while done < task.messages:
        fetched = await consumer.getmany(timeout_ms=500)
        if not done and fetched:
            meter.start()
        for records in fetched.values():
            futures = [await producer.send(task.target, record.value, key=record.key) for record in records]
            await asyncio.gather(*futures)
            done += len(records)
        if fetched:
            await consumer.commit()
    meter.mark()
    meter.stop(done)
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    uvloop.run(main(Task.given()))
