"""confluent-kafka by hand: consume a batch, decide it as one, produce each, offsets in the transaction."""

from __future__ import annotations

from typing import Final

from confluent_kafka import Consumer, Message, Producer

from benchmarks.contenders.decision import Arrived, Decide
from benchmarks.contenders.task import Meter, Task

BATCH: Final = 2_000
"""Four partitions' worth of the lane's 500: a model call and a transaction for so many."""
WAIT_S: Final = 0.02
"""The lane's commit interval: a batch that is not full goes out by then."""


def main(task: Task) -> None:
    """Read, decide, write, commit until all is done."""
    consumer = Consumer(
        {
            "bootstrap.servers": task.servers,
            "group.id": f"confluent-{task.run}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {"bootstrap.servers": task.servers, "transactional.id": f"confluent-{task.run}", "linger.ms": 5}
    )
    producer.init_transactions()
    consumer.subscribe([task.topic])
    decide = Decide.of(task)
    meter, done = Meter(), 0
    while done < task.messages:
        batch = consumer.consume(BATCH, WAIT_S)
        if not batch:
            continue
        if not done:
            meter.start()
        _check(batch)
        producer.begin_transaction()
        _produce(producer, task.target, batch, decide)
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        done += len(batch)
    meter.mark()
    meter.stop(done)
    consumer.close()


def _check(batch: list[Message]) -> None:
    for message in batch:
        if message.error():
            raise SystemExit(f"cannot read: {message.error()}")


def _produce(producer: Producer, target: str, batch: list[Message], decide: Decide | None) -> None:
    if decide is None:
        pairs = [(message.key(), message.value()) for message in batch]
    else:
        pairs = decide(
            [
                Arrived(each.value(), each.topic(), each.partition(), each.offset(), each.timestamp()[1])
                for each in batch
            ]
        )
    for message, (key, value) in zip(batch, pairs, strict=True):
        producer.produce(target, value, key, message.partition())


if __name__ == "__main__":
    main(Task.given())
