"""A plain Faust agent: one event, one decision, one `send`. At least once, commits as Faust does by itself."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import faust
import uvloop

from benchmarks.contenders.decision import Arrived, Decide
from benchmarks.contenders.task import Meter, Task


async def main(task: Task) -> None:
    """Run the app until the last event is sent, acknowledged and committed."""
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            f"faust-{task.run}",
            broker=f"kafka://{task.servers}",
            store="memory://",
            datadir=folder,
            web_enabled=False,
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            producer_linger=0.005,  # as the bare loop; without it a request to the broker goes out for each event
        )
        meter, done = Meter(), asyncio.Event()
        _agent(app, task, meter, done)
        await app.start()
        await done.wait()
        await asyncio.sleep(0)  # the last event is acknowledged once its agent asks for another
        await app.producer.flush()
        await app.consumer.commit()
        meter.mark()
        meter.stop(task.messages)
        await app.stop()


def _agent(app: faust.App, task: Task, meter: Meter, done: asyncio.Event) -> None:
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw"}
    requests = app.topic(task.topic, key_type=bytes, value_type=bytes, **raw)
    outcomes = app.topic(task.target, key_type=bytes, value_type=bytes, **raw)
    decide = Decide.of(task)

    @app.agent(requests)  # type: ignore[untyped-decorator]
    async def answer(stream: Any) -> None:
        count = 0
        async for event in stream.events():
            if not count:
                meter.start()
            key, value = event.key, event.value
            if decide is not None:
                from_ = event.message
                ((key, value),) = decide(
                    [Arrived(value, from_.topic, from_.partition, from_.offset, int(from_.timestamp * 1000))]
                )
            await outcomes.send(key=key, value=value)
            count += 1
            if count == task.messages:
                done.set()


if __name__ == "__main__":
    uvloop.run(main(Task.given()))
