"""Quix Streams: `apply` to each message, `to_topic`, exactly once, its own commit interval (5 s)."""

from __future__ import annotations

import tempfile
from typing import Any

from quixstreams import Application, message_context
from quixstreams.checkpointing import Checkpoint

from benchmarks.contenders.decision import Arrived, Decide
from benchmarks.contenders.task import Meter, Task


def main(task: Task) -> None:
    """Run until the last message is committed."""
    meter = Meter()
    _mark_commits(meter)
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=task.servers,
            consumer_group=f"quix-{task.run}",
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            auto_create_topics=False,
            state_dir=folder,
            loglevel="ERROR",
            producer_extra_config={"linger.ms": 5},
        )
        raw: dict[str, Any] = {"key_serializer": "bytes", "key_deserializer": "bytes"}
        source = app.topic(task.topic, value_deserializer="bytes", **raw)
        target = app.topic(task.target, value_serializer="bytes", **raw)
        app.dataframe(source).apply(_work(task, meter), metadata=True).to_topic(target)
        app.run(count=task.messages, collect=False)
    meter.stop(task.messages)


def _work(task: Task, meter: Meter) -> Any:
    started = False

    def begin() -> None:
        nonlocal started
        if not started:
            started = True
            meter.start()

    def copy(value: bytes, *_: Any) -> bytes:
        begin()
        return value

    decide = Decide.of(task)

    def answer(value: bytes, _key: bytes, timestamp_ms: int, _headers: Any) -> bytes:
        begin()
        at = message_context()
        assert decide is not None
        return decide([Arrived(value, at.topic, at.partition, at.offset, timestamp_ms)])[0][1]

    return answer if task.decides else copy


def _mark_commits(meter: Meter) -> None:
    """The library says nothing when a transaction is committed, and closing takes time that is not its work."""
    commit = Checkpoint.commit

    def marked(self: Checkpoint, *arguments: Any, **options: Any) -> None:
        commit(self, *arguments, **options)
        meter.mark()

    Checkpoint.commit = marked


if __name__ == "__main__":
    main(Task.given())
