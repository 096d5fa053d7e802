"""Pointsman's decision lane with its model process: all of the decision path, exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import uvloop

from benchmarks.contenders.task import Meter, Task
from pointsman.models.registry import load_agents
from pointsman.streams import topics
from pointsman.streams.collector import Collector
from pointsman.streams.decisions.lane import decision_lane
from pointsman.streams.flags import FlagFollower
from pointsman.streams.metrics import RECORDS
from pointsman.streams.model.client import ModelClient
from pointsman.streams.model.process import ModelProcess
from pointsman.streams.settings import load
from pointsman.streams.topics import Names


async def main(task: Task) -> None:
    """Decide all messages."""
    options = {
        "kafka": task.servers,
        "topic_prefix": task.prefix,
        "group": f"lane-{task.run}",
        "log_level": "error",
    }
    settings = load(options).settings
    admin = await topics.connect(task.servers)
    partitions = {state.name: state.partitions for state in await topics.states(admin, settings)}
    await admin.close()
    process = ModelProcess([], log_level="error")
    await process.start()
    client = ModelClient(process.address, deadline_ms=settings.model_deadline_ms, shadows_max=64)
    await client.start()
    await client.ready(30)
    flags = FlagFollower(task.servers, Names(task.prefix).flags)
    lane = decision_lane(
        settings=settings,
        servers=task.servers,
        names=Names(task.prefix),
        partitions=partitions,
        agents=load_agents([Path(folder) for folder in settings.agents]),
        flags=flags,
        scorer=client,
        transactional=True,
    )
    await flags.start()
    await flags.current.wait()
    await lane.start()
    collector = Collector()
    await collector.start()
    model = psutil.Process(process.pid)
    meter, counter = Meter(), RECORDS.labels("decisions")._value  # noqa: SLF001 - the library offers no reading
    while not any(loop.buffered for loop in lane.loops.values()) and not counter.get():
        await asyncio.sleep(0.001)
    meter.start()
    model_before = sum(model.cpu_times()[:2])
    while counter.get() < task.messages:
        await asyncio.sleep(0.005)
    meter.stop(int(counter.get()), model_cpu_s=sum(model.cpu_times()[:2]) - model_before)
    await collector.stop()
    await lane.stop()
    await flags.stop()
    await client.stop()
    await process.stop()


if __name__ == "__main__":
    uvloop.run(main(Task.given()))
