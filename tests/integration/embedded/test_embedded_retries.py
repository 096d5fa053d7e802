"""Retries and redrive on the embedded broker: what waits survives its worker, and the database counts each once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from tests.support.commands import pointsman
from tests.support.flaky import Flaky
from tests.support.pipeline import consumer, good, request, wait_for
from tests.support.processes import children, listener

REQUESTS, OUTCOMES, LETTERS = "decision-requests", "decision-outcomes", "decision-dead-letters"
COUNT = 20


class Up:
    """`pointsman up` with the flaky agent, on servers of its own."""

    def __init__(self, folder: Path, flaky: Flaky) -> None:
        self.settings = {
            "data_dir": str(folder / "data"),
            "agents": str(flaky.folder),
            "metrics_port": "0",
            "retry_delays_ms": "300,600,5000",
        }
        self._log = folder / "log"
        names = {f"POINTSMAN_{name.upper()}": value for name, value in self.settings.items()}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pointsman.streams.cli", "up"],
                env=os.environ | names,
                stdout=log,
                stderr=log,
            )

    def running(self) -> dict[str, Any]:
        """What it says of itself to other commands."""
        return dict(json.loads(Path(self.settings["data_dir"], "run", "pointsman.json").read_text()))

    def wait(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            return "pointsman runs" in self._log.read_text()

        wait_for(ready, "up", detail=self._log.read_text)


@pytest.fixture
def flaky(open_folder: Path) -> Flaky:
    return Flaky(open_folder)


@pytest.fixture
def up(open_folder: Path, flaky: Flaky) -> Iterator[Up]:
    made = Up(open_folder, flaky)
    try:
        made.wait()
        yield made
    finally:
        made.process.terminate()
        made.process.wait(90)


def read(bootstrap: str, topic: str, ids: set[bytes]) -> list[Any]:
    """Records until all of these keys were seen."""
    found: list[Any] = []
    with consumer(bootstrap, topic) as reader:
        wait_for(
            lambda: bool(
                found.extend(good(reader.consume(100, 0.2))) or ids <= {each.key() for each in found}
            ),
            f"{len(ids)} keys on {topic}",
        )
    return found


def test_what_waits_survives_a_killed_worker_and_what_died_is_sent_again(up: Up, flaky: Flaky) -> None:
    bootstrap = up.running()["kafka"]
    producer = Producer({"bootstrap.servers": bootstrap})
    waiting = {f"r-{n}".encode() for n in range(COUNT)}
    for n in range(COUNT):
        key, value = request(n, agent="flaky", input={"how": "later"})
        producer.produce(REQUESTS, value, key)
    key, value = request("dead", agent="flaky", input={"how": "raise"})
    producer.produce(REQUESTS, value, key)
    assert producer.flush(30) == 0
    read(bootstrap, "decision-retries-600ms", waiting)
    os.kill(listener(children(up.process.pid), up.running()["ops"]["worker"]), signal.SIGKILL)
    (letter,) = {each.value() for each in read(bootstrap, LETTERS, {b"r-dead"}) if each.key() == b"r-dead"}
    assert letter == value
    flaky.open()

    listed = pointsman(up.settings, "dlq", "list", "--json").json()
    assert listed["by_reason"]["feature_error"] >= 1
    ran = pointsman(up.settings, "dlq", "redrive", "--all", "--json")
    assert ran.code == 0
    assert set(ran.json()["counts"]) == {"sent"}
    again = pointsman(up.settings, "dlq", "redrive", "--all", "--json")
    assert set(again.json()["counts"]) == {"sent before"}
    found = read(bootstrap, OUTCOMES, waiting | {b"r-dead"})
    assert {each.key() for each in found} == waiting | {b"r-dead"}

    def counted() -> int:
        with psycopg.connect(up.running()["dsn"]) as connection:
            rows = connection.execute("SELECT count(DISTINCT decision_id) FROM ml_learning.agent_decisions")
            return int(rows.fetchall()[0][0])

    wait_for(lambda: counted() == COUNT + 1, "a row each")
