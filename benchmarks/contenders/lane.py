"""Pointsman's decision lane with its model process: all of the decision path, exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.contenders.task import Meter, Task
from pointsman.models.agent import Agent
from pointsman.models.registry import load_agents
from pointsman.streams import loop, topics
from pointsman.streams.collector import Collector
from pointsman.streams.decisions.lane import decision_lane
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.metrics import RECORDS
from pointsman.streams.model.client import ModelClient
from pointsman.streams.model.process import ModelProcess
from pointsman.streams.settings import Settings, load
from pointsman.streams.topics import Names

READY_S: Final = 60.0
"""The model's libraries take two seconds to load, on a machine with nothing else to do."""


async def main(task: Task) -> None:
    """Decide all messages."""
    settings = settings_of(task)
    await decided(task, settings, load_agents([Path(folder) for folder in settings.agents]))


async def decided(task: Task, settings: Settings, agents: Mapping[str, Agent]) -> None:
    """Decide all messages with these agents."""
    admin = await topics.connect(task.servers)
    partitions = {state.name: state.partitions for state in await topics.states(admin, settings)}
    await admin.close()
    process = ModelProcess([], log_level="error")
    await process.start()
    client = ModelClient(process.address, deadline_ms=settings.model_deadline_ms, shadows_max=64)
    await client.start()
    if not await client.ready(READY_S):
        raise SystemExit("the model process did not come up")
    flags = FlagFollower(task.servers, Names(task.prefix).flags)
    lane = decision_lane(
        settings=settings,
        servers=task.servers,
        names=Names(task.prefix),
        partitions=partitions,
        agents=agents,
        flags=flags,
        scorer=client,
        transactional=True,
    )
    await flags.start()
    await flags.current.wait()
    await measured(lane, task, psutil.Process(process.pid))
    await flags.stop()
    await client.stop()
    await process.stop()


def settings_of(task: Task) -> Settings:
    """The defaults, but for names and the share that is asked beside the rules."""
    options = {
        "kafka": task.servers,
        "topic_prefix": task.prefix,
        "group": f"lane-{task.run}",
        "shadow_percent": task.shadow_percent,
        "log_level": "error",
    }
    return load(options, {}).settings


async def measured(lane: Lane, task: Task, model: Any = None) -> None:
    """Run the lane from its first record to its last commit. ``model``: the model process, to be told apart."""
    await lane.start()
    collector = Collector()
    await collector.start()
    meter, counter = Meter(), RECORDS.labels(lane.name)._value  # noqa: SLF001 - the library offers no reading
    while not any(each.buffered for each in lane.loops.values()) and not counter.get():
        _check(lane)
        await asyncio.sleep(0.001)
    meter.start()
    model_before = _cpu_s(model)
    while counter.get() < task.messages:
        _check(lane)
        await asyncio.sleep(0.005)
    meter.mark()
    meter.stop(int(counter.get()), **({"model_cpu_s": _cpu_s(model) - model_before} if model else {}))
    await collector.stop()
    await lane.stop()


def _check(lane: Lane) -> None:
    """A lane that begins anew again and again would be waited for without end."""
    if lane.crashed:
        raise lane.crash_reason or RuntimeError("the lane has crashed")
    for each in lane.loops.values():
        if each.failure and time.monotonic() - each.last_progress > READY_S:
            raise SystemExit(each.failure)


def _cpu_s(process: Any) -> float:
    return sum(process.cpu_times()[:2]) if process else 0.0


if __name__ == "__main__":
    loop.run(main(Task.given()))
