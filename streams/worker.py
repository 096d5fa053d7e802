"""One worker process: topology, model process, operations port; from start to drained stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError
from mode import Service

from pointsman.models.agent import Agent
from pointsman.models.registry import load_agents
from pointsman.streams import condition, metrics, topics, zeroes
from pointsman.streams.collector import Collector
from pointsman.streams.errors import KafkaUnavailable, TopicProblem
from pointsman.streams.model.breaker import BreakerPolicy, State
from pointsman.streams.model.client import ModelClient
from pointsman.streams.model.process import ModelProcess
from pointsman.streams.ops import Ops
from pointsman.streams.settings import Settings
from pointsman.streams.topology import Topology, build, exactly_once

logger = logging.getLogger(__name__)

MODEL_START_S = 30.0
"""How long a start waits for the model process; after that the rules answer until it is there."""

SHADOWS_MAX = 64
"""Shadow questions in flight at once: one for each partition of a large topic. They are answered last."""

WATCH_S = 0.5
"""How often the parts are looked at."""


@dataclass(slots=True)
class Place:
    """Where a worker finds its servers."""

    kafka: str
    dsn: str
    cluster: str = ""
    """Kafka's cluster id; empty: as the broker says."""
    embedded: bool = False


@dataclass(slots=True)
class Worker:
    """A worker's parts, and its report on them."""

    settings: Settings
    topology: Topology
    agents: Mapping[str, Agent]
    client: ModelClient | None = None
    process: ModelProcess | None = None
    started: list[Service] = field(default_factory=list)

    def health(self) -> dict[str, Any]:
        """State of each part. ``healthy`` means progress in every lane; a model that is away is no illness.

        ``condition`` is the worst of the lanes': `condition.of_lane`.
        """
        lanes: dict[str, dict[str, Any]] = {
            lane.name: dict(lane.health()) for lane in (self.topology.decisions, self.topology.sink) if lane
        }
        for name, lane in lanes.items():
            lane["condition"] = condition.of_lane(lane, self.settings.batch_records_max)
            metrics.BEHIND.labels(name).set(lane["condition"] == "behind")
        models = self._models()
        for agent, state in models.items():
            metrics.MODEL_UP.labels(agent).set(state["version"] is not None)
            metrics.BREAKER.labels(agent).set(state["breaker"] != "closed")
        return {
            "healthy": all(lane["healthy"] for lane in lanes.values()),
            "ready": all(lane["ready"] for lane in lanes.values()),
            "condition": condition.worst(lane["condition"] for lane in lanes.values()),
            "lanes": lanes,
            "control_plane": self.topology.control.up if self.topology.control else True,
            "models": models,
            "model_restarts": self.process.restarts if self.process else 0,
            "flags": {flag.name: flag.percentage for flag in self.topology.flags.flags.all()}
            if self.topology.flags
            else {},
            "flags_current": self.topology.flags.current.is_set() if self.topology.flags else None,
        }

    def _models(self) -> dict[str, dict[str, Any]]:
        if self.client is None:
            return {}
        return {
            name: {"version": self.client.available(name), "breaker": str(self.client.breaker(name))}
            for name, agent in self.agents.items()
            if agent.model is not None
        }


async def run(
    settings: Settings,
    place: Place,
    *,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[Worker, Ops], None] = lambda _worker, _ops: None,
) -> None:
    """Run a worker until ``stop`` is set or a signal comes; then drain. Raises what crashed it.

    Raises `KafkaUnavailable` and `TopicProblem` before anything is started.
    """
    stop = stop or asyncio.Event()
    _on_signals(stop)
    partitions, cluster = await _look(settings, place)
    agents = load_agents([Path(folder) for folder in settings.agents])
    zeroes.begin(settings, agents)
    async with contextlib.AsyncExitStack() as stack:
        decides = "decisions" in settings.lanes
        client, process = await _model(settings, agents, stack, stop) if decides else (None, None)
        topology = build(
            settings,
            agents,
            servers=place.kafka,
            dsn=place.dsn,
            cluster=place.cluster or cluster,
            embedded=place.embedded,
            scorer=client,
            partitions=partitions,
        )
        worker = Worker(settings, topology, agents, client, process)
        live = topology.control.figures if topology.control else None
        ops = Ops(host=settings.metrics_host, port=settings.metrics_port, health=worker.health, live=live)
        await _serve(worker, ops, stop, on_ready, place)


async def _serve(
    worker: Worker, ops: Ops, stop: asyncio.Event, on_ready: Callable[[Worker, Ops], None], place: Place
) -> None:
    control = worker.topology.control
    metrics.CONTROL_UP.set(1)  # where none is wanted none is down
    if control is not None:
        control.start()
    try:
        for service in (ops, *worker.topology.services()):
            worker.started.append(service)
            await _start(service, place)
        _announce(worker, ops, place)
        worker.started.append(collector := Collector())
        await collector.start()
        on_ready(worker, ops)
        await _until(worker, stop)
    finally:
        logger.info("stopping: finishing what is under way")
        for service in reversed(worker.started):
            await _end(service)
        if control is not None:
            await control.stop()
        logger.info("stopped")


async def _start(service: Service, place: Place) -> None:
    """Raises `KafkaUnavailable` where the broker went since it was looked at."""
    try:
        await service.start()
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        msg = f"Kafka at {place.kafka} stopped answering during the start ({type(error).__name__})"
        raise KafkaUnavailable(msg) from error


async def _end(service: Service) -> None:
    """Stop it; one that cannot must not keep the others from it."""
    try:
        await service.stop()
    except Exception:
        logger.exception("a part did not stop in order", extra={"part": str(service)})


async def _until(worker: Worker, stop: asyncio.Event) -> None:
    """Until stopped. A lane that crashed ends the worker."""
    while not stop.is_set():
        for service in worker.started:
            if service.crashed:
                raise service.crash_reason or RuntimeError(f"{service} crashed")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WATCH_S)


def _announce(worker: Worker, ops: Ops, place: Place) -> None:
    settings = worker.settings
    if "decisions" in settings.lanes:
        once = exactly_once(settings, place.embedded)
        logger.info(
            "decisions are exactly once"
            if once
            else "decisions are AT LEAST ONCE: this broker has no transactions; the database still counts each once",
            extra={"kafka": place.kafka, "agents": sorted(worker.agents)},
        )
    logger.info("worker runs", extra={"lanes": list(settings.lanes), "ops": f"http://{ops.host}:{ops.port}"})


async def _look(settings: Settings, place: Place) -> tuple[dict[str, int], str]:
    """Partitions of each topic, and the cluster's id."""
    admin = await topics.connect(place.kafka)
    try:
        states = await topics.states(admin, settings)
        problems = [f"{state.name}: {state.problem}" for state in states if state.problem]
        if problems:
            raise TopicProblem("; ".join(problems))
        cluster = str((await admin.describe_cluster())["cluster_id"])
    finally:
        await admin.close()
    return {state.name: state.partitions for state in states}, cluster


async def _model(
    settings: Settings, agents: Mapping[str, Agent], stack: contextlib.AsyncExitStack, stop: asyncio.Event
) -> tuple[ModelClient | None, ModelProcess | None]:
    """The model process, or the remote server of the settings, and a client of it; ``stack`` ends them."""
    if not any(agent.model is not None for agent in agents.values()):
        return None, None
    process = None
    if not settings.model_url:
        process = ModelProcess(
            settings.agents,
            metrics_host=settings.metrics_host,
            metrics_port=settings.metrics_port + 1 if settings.metrics_port else 0,
            on_restart=metrics.MODEL_RESTARTS.inc,
            log=settings.log,
            log_level=settings.log_level,
        )
        await process.start()
        stack.push_async_callback(process.stop)
    client = ModelClient(
        settings.model_url or (process.address if process else ""),
        deadline_ms=settings.model_deadline_ms,
        breaker=BreakerPolicy(open_s=settings.model_breaker_open_s),
        on_breaker=_breaker_changed,
        shadows_max=SHADOWS_MAX,
    )
    await client.start()
    stack.push_async_callback(client.stop)
    await _either(client.ready(MODEL_START_S), stop.wait())
    if not any(client.available(name) for name in agents) and not stop.is_set():
        logger.warning("the model is not there yet; the rules answer until it is")
    return client, process


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    """Until one of them is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _breaker_changed(agent: str, old: State, new: State) -> None:
    metrics.BREAKER.labels(agent).set(new is not State.CLOSED)
    logger.warning("model breaker", extra={"agent": agent, "was": str(old), "is": str(new)})


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
