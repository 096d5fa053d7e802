"""A worker's parts: what a crash of one does to the others, and a stop that reaches them all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.errors import KafkaConnectionError
from mode import Service

from pointsman.streams import metrics, worker
from pointsman.streams.collector import Collector
from pointsman.streams.control import ControlPlane
from pointsman.streams.errors import KafkaUnavailable
from pointsman.streams.settings import Settings
from pointsman.streams.worker import Place, Worker, _either, _serve


class Part(Service):
    """A part that notes its start and its stop, and fails where it is told to."""

    abstract = False

    def __init__(self, name: str, notes: list[str]) -> None:
        super().__init__()
        self.name = name
        self.notes = notes
        self.fails_to_start: Exception | None = None
        self.fails_to_stop: Exception | None = None
        self.hangs: str = ""
        self.host, self.port = "", 0

    async def on_start(self) -> None:
        self.notes.append(f"start {self.name}")
        if self.hangs == "start":
            await asyncio.Event().wait()
        if self.fails_to_start is not None:
            raise self.fails_to_start

    async def on_stop(self) -> None:
        if self.hangs == "stop":
            await asyncio.Event().wait()
        if self.fails_to_stop is not None:
            raise self.fails_to_stop
        self.notes.append(f"stop {self.name}")


class Control:
    """A control plane that notes its start and its stop."""

    up = True

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def start(self) -> None:
        self.notes.append("start control")

    async def stop(self) -> None:
        self.notes.append("stop control")

    def figures(self) -> dict[str, Any]:
        return {}


class Crew:
    """A worker of three parts beside a control plane."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.control = Control(self.notes)
        self.ops, self.flags, self.lane = (Part(name, self.notes) for name in ("ops", "flags", "lane"))
        topology: Any = SimpleNamespace(control=self.control, services=lambda: [self.flags, self.lane])
        self.worker = Worker(Settings(lanes="sink"), topology, {})
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()

    async def serve(self) -> None:
        ops: Any = self.ops
        place = Place(kafka="", dsn="")
        await _serve(self.worker, ops, self.stop, lambda *_: self.ready.set(), place)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[asyncio.Task[None]]:
        async with asyncio.timeout(10):
            task = asyncio.create_task(self.serve())
            await self.ready.wait()
            yield task
            self.stop.set()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the parts often; leave the collector of the tests' process as it is."""
    monkeypatch.setattr(worker, "WATCH_S", 0.001)
    monkeypatch.setattr(Collector, "on_start", AsyncMock())
    monkeypatch.setattr(Collector, "on_stop", AsyncMock())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_stop_ends_every_part_in_reverse_order_and_the_control_plane_last() -> None:
    crew = Crew()
    async with crew.serving():
        pass
    assert [note for note in crew.notes if note.startswith("stop")] == [
        "stop lane",
        "stop flags",
        "stop ops",
        "stop control",
    ]


async def test_health_says_whether_the_control_plane_is_up_and_without_one_that_nothing_is_amiss() -> None:
    crew = Crew()
    assert crew.worker.topology.control is not None
    crew.control.up = False
    topology: Any = SimpleNamespace(control=crew.control, decisions=None, sink=None, flags=None)
    crew.worker.topology = topology
    assert crew.worker.health()["control_plane"] is False
    assert crew.worker.health()["healthy"]
    topology.control = None
    assert crew.worker.health()["control_plane"] is True


async def test_a_crash_of_the_control_plane_reaches_no_lane() -> None:
    def fails() -> Any:
        raise RuntimeError("its topics cannot be made")

    crew = Crew()
    crew.worker.topology.control = plane = ControlPlane(fails, AsyncMock())
    async with crew.serving() as task:
        await until(lambda: not plane.up)
        assert not any(part.crashed for part in (crew.ops, crew.flags, crew.lane))
        assert not task.done()
    assert "stop lane" in crew.notes


async def test_where_no_control_plane_is_wanted_none_is_down() -> None:
    crew = Crew()
    crew.worker.topology.control = None
    metrics.CONTROL_UP.set(0)
    async with crew.serving():
        assert metrics.CONTROL_UP._value.get() == 1


async def test_a_crash_of_a_lane_ends_the_worker_with_its_reason_and_stops_the_others() -> None:
    crew = Crew()
    error = RuntimeError("the consumer of the lane has died")
    async with crew.serving() as task:
        await crew.lane.crash(error)
        with pytest.raises(RuntimeError) as caught:
            await task
    assert caught.value is error
    assert not crew.flags.crashed
    assert {"stop flags", "stop ops", "stop control"} <= set(crew.notes)


async def test_a_part_that_cannot_stop_keeps_none_of_the_others_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crew = Crew()
    crew.lane.fails_to_stop = OSError("no broker")
    async with crew.serving() as task:
        crew.stop.set()
        await task
    assert {"stop flags", "stop ops", "stop control"} <= set(crew.notes)
    assert "a part did not stop in order" in caplog.text


async def test_a_part_that_cannot_start_ends_those_that_were_started() -> None:
    crew = Crew()
    crew.lane.fails_to_start = OSError("no broker")
    with pytest.raises(OSError, match="no broker"):
        await asyncio.wait_for(crew.serve(), 10)
    assert {"stop flags", "stop ops", "stop lane"} <= set(crew.notes)


async def test_the_first_wait_that_is_over_ends_the_others() -> None:
    ended = asyncio.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await asyncio.wait_for(_either(asyncio.sleep(0), hangs()), 10)
    assert ended.is_set()


async def test_a_broker_that_goes_during_the_start_is_named_and_no_bug() -> None:
    crew = Crew()
    crew.lane.fails_to_start = KafkaConnectionError("Unable to bootstrap")
    with pytest.raises(KafkaUnavailable, match="stopped answering during the start"):
        await crew.serve()
    assert "stop flags" in crew.notes
