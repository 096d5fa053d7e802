"""Children of `up` and `demo`: orders by standard input, restart after a crash, a stop in the order of the work."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from pointsman.streams.cli import crew
from pointsman.streams.cli.child import Orders
from pointsman.streams.cli.crew import Child, ChildFailed, Crew
from pointsman.streams.settings import Settings

PROGRAM = """
    import json, os, signal, sys, time
    orders = json.loads(sys.stdin.buffer.readline())
    folder = orders["settings"]["data_dir"]
    def note(text):
        with open(os.path.join(folder, "notes"), "a") as file:
            file.write(f"{orders['name']} {text}\\n")
    def stop(*_):
        note("stopped")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    note("started")
    if orders["name"] == "broken":
        print(json.dumps({"error": "no such thing"}), flush=True)
        sys.exit(1)
    if orders["name"] == "silent":
        print("last words", file=sys.stderr)
        sys.exit(1)
    if orders["name"] == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps({"ops": ""}), flush=True)
    if orders["name"] != "deaf":
        sys.stdin.buffer.read()
        note("parent gone")
        sys.exit(0)
    while True:
        time.sleep(1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where children note what happens to them; they are the program above."""
    (tmp_path / "a_child_of_tests.py").write_text(textwrap.dedent(PROGRAM))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(crew, "PROGRAM", "a_child_of_tests")
    monkeypatch.setattr(crew, "PAUSES_S", (0.01, 0.01))
    return tmp_path


def child(folder: Path, name: str, lanes: tuple[str, ...] = ("decisions",)) -> Child:
    settings = msgspec.convert({"data_dir": str(folder), "lanes": lanes, "drain_s": 1}, Settings)
    return Child(Orders(name=name, settings=settings, kafka="k", dsn="d"), folder / f"{name}.log")


def notes(folder: Path) -> list[str]:
    file = folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


async def until(met: object, what: str) -> None:
    deadline = time.monotonic() + 20
    while not met():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def test_children_stop_in_the_order_of_the_work(folder: Path) -> None:
    both = Crew([child(folder, "worker"), child(folder, "sink", ("sink",))])
    await both.start()
    await both.stop()
    assert sorted(notes(folder)[:2]) == ["sink started", "worker started"]
    assert notes(folder)[2:] == ["worker stopped", "sink stopped"]
    await both.stop()  # safe to call again
    assert len(notes(folder)) == 4


async def test_a_child_that_was_killed_is_started_again_and_told_of(folder: Path) -> None:
    told: list[str] = []
    one = child(folder, "worker")
    team = Crew([one], lambda: told.append("changed"))
    await team.start()
    first = one.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: one.restarts == 1 and told, "the child was not started again")
    assert one.pid not in (None, first)
    await team.stop()
    assert notes(folder) == ["worker started", "worker started", "worker stopped"]


async def test_a_child_that_cannot_run_says_why_and_takes_the_others_along(folder: Path) -> None:
    team = Crew([child(folder, "worker"), child(folder, "broken")])
    with pytest.raises(ChildFailed, match="broken: no such thing"):
        await team.start()
    assert "worker stopped" in notes(folder)
    assert [each.pid for each in team.children] == [None, None]


async def test_a_child_that_ends_without_a_word_is_quoted_from_its_log(folder: Path) -> None:
    with pytest.raises(ChildFailed, match="last words"):
        await Crew([child(folder, "silent")]).start()


async def test_a_child_that_does_not_drain_in_time_is_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "KILL_AFTER_S", 0.0)
    one = child(folder, "deaf")
    team = Crew([one])
    await team.start()
    await team.stop()
    assert one.pid is None
    assert notes(folder) == ["deaf started"]


async def test_a_port_that_nobody_answers_is_none() -> None:
    assert await crew.ask("http://127.0.0.1:1/health") is None


async def test_the_real_child_reports_a_broker_that_does_not_answer(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), lanes=("decisions",), metrics_port=0)
    orders = Orders(name="worker", settings=settings, kafka="127.0.0.1:1", dsn="")
    with pytest.raises(ChildFailed, match=r"worker: no Kafka broker answers at 127\.0\.0\.1:1"):
        await Crew([Child(orders, tmp_path / "worker.log")]).start()


def test_orders_survive_their_way(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path), agents=("a b", "c"), lanes=("sink",))
    orders = Orders(
        name="sink", settings=settings, kafka="h:1", dsn="postgresql://x", cluster="c", embedded=True
    )
    assert msgspec.json.decode(msgspec.json.encode(orders), type=Orders) == orders
