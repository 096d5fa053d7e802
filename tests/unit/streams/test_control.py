"""The control plane: a crash ends nothing else, and another app takes the place of the one that crashed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mode import Service

from pointsman.streams import control, metrics
from pointsman.streams.control import ControlPlane


class App(Service):
    """An app with a consumer of its own, as Faust's has."""

    abstract = False

    def __init__(self, number: int, plan: Plan) -> None:
        super().__init__()
        self.number = number
        self.plan = plan
        self.consumer = Consumer()
        self.add_dependency(self.consumer)

    async def on_start(self) -> None:
        self.plan.notes.append(f"start {self.number}")
        if self.plan.hangs == "start":
            await asyncio.Event().wait()
        if self.plan.failures:
            raise self.plan.failures.pop()

    async def on_stop(self) -> None:
        if self.plan.hangs == "stop":
            await asyncio.Event().wait()
        self.plan.notes.append(f"stop {self.number}")


class Consumer(Service):
    abstract = False


class Tables:
    """Stands for `Live`."""

    def __init__(self, app: App) -> None:
        self.app = app

    def figures(self) -> dict[str, Any]:
        return {"app": self.app.number}


class Plan:
    """What is to go wrong, what went on, and the apps that were made."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.failures: list[Exception] = []
        self.undeclared: list[Exception] = []
        self.hangs = ""
        self.apps: list[App] = []

    def make(self) -> Any:
        self.apps.append(App(len(self.apps), self))
        return Tables(self.apps[-1])

    async def declare(self, live: Any) -> None:
        self.notes.append(f"declare {live.app.number}")
        if self.undeclared:
            raise self.undeclared.pop()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ControlPlane]:
        plane = ControlPlane(self.make, self.declare)
        async with asyncio.timeout(10):
            plane.start()
            yield plane
            await plane.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WATCH_S", "AGAIN_MIN_S"):
        monkeypatch.setattr(control, name, 0.001)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_the_tables_topics_are_there_before_the_app_asks_for_its_partitions() -> None:
    plan = Plan()
    async with plan.running() as plane:
        assert plane.figures() == {}
        await until(plane.figures)
        assert plane.up
    assert plan.notes == ["declare 0", "start 0", "stop 0"]


async def test_without_topics_to_be_made_the_app_starts_at_once() -> None:
    plan = Plan()
    plane = ControlPlane(plan.make, None)
    async with asyncio.timeout(10):
        plane.start()
        await until(plane.figures)
        await plane.stop()
    assert plan.notes == ["start 0", "stop 0"]


@pytest.mark.parametrize("reason", [asyncio.CancelledError(), SystemExit(1)])
async def test_not_even_an_exit_within_the_app_ends_anything_else(reason: BaseException) -> None:
    plan = Plan()
    async with plan.running() as plane:
        await until(plane.figures)
        await plan.apps[0].crash(reason)
        await until(lambda: plane.figures() == {"app": 1})


@pytest.mark.parametrize("crashed", ["app", "consumer"])
async def test_another_app_takes_the_place_of_one_that_crashed(
    crashed: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan()
    async with plan.running() as plane:
        await until(plane.figures)
        first = plan.apps[0]
        await (first if crashed == "app" else first.consumer).crash(RuntimeError("the broker went"))
        await until(lambda: not plane.up)
        assert metrics.CONTROL_UP._value.get() == 0
        assert plane.figures() == {"app": 0}, "the last ones known"
        await until(lambda: plane.up)
        assert plane.figures() == {"app": 1}
        assert metrics.CONTROL_UP._value.get() == 1
    assert plan.notes == ["declare 0", "start 0", "stop 0", "declare 1", "start 1", "stop 1"]
    assert caplog.text.count("the control plane is down") == 1
    assert "the broker went" in str(caplog.records[-1].__dict__["error"])


async def test_what_cannot_start_is_tried_again_and_less_and_less_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plan = Plan()
    plan.undeclared = [OSError("no broker"), OSError("no broker")]
    plan.failures = [OSError("no group"), OSError("no group")]
    async with plan.running() as plane:
        await until(plane.figures)
        assert plane.up
    assert len(plan.apps) == 5
    waits = [record.__dict__["again_s"] for record in caplog.records if "is down" in record.message]
    assert waits == [0.001, 0.002, 0.004, 0.008]


async def test_waits_are_bounded_and_short_again_after_an_app_that_ran_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "AGAIN_MAX_S", 0.002)
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(control, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    plan = Plan()
    plan.undeclared = [OSError("no broker")] * 4
    async with plan.running() as plane:
        await until(plane.figures)
        clock.now_s = 0.003
        await plan.apps[-1].crash(RuntimeError("again"))
        await until(lambda: len(plan.apps) == 6)
    waits = [record.__dict__["again_s"] for record in caplog.records if "is down" in record.message]
    assert waits == [0.001, 0.002, 0.002, 0.002, 0.001]


@pytest.mark.parametrize("hangs", ["start", "stop"])
async def test_one_that_hangs_at_its_end_is_left_behind(
    hangs: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "STOP_S", 0.01)
    plan = Plan()
    plan.hangs = hangs
    async with plan.running():
        await until(lambda: "start 0" in plan.notes)
    assert ("did not stop in time" in caplog.text) == (hangs == "stop")
