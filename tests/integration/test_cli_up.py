"""`up` and `worker`: started, killed, drained, and what other commands find of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pointsman.schemas import topics
from tests.support.kafka import Kafka
from tests.support.processes import children, listener

COMMAND = [sys.executable, "-P", "-m", "pointsman.streams.cli"]
WAIT_S = 90


def until(met: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := met()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.fixture
def environment(open_folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "POINTSMAN_DATA_DIR": str(open_folder / "data"),
        "POINTSMAN_METRICS_PORT": "0",
        "COLUMNS": "200",
    }


def command(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


@pytest.fixture
def up(environment: dict[str, str], open_folder: Path) -> Iterator[subprocess.Popen[str]]:
    with (open_folder / "log").open("w") as log:
        process = subprocess.Popen([*COMMAND, "up"], env=environment, stdout=log, stderr=log, text=True)
    try:
        until(
            lambda: "pointsman runs" in (open_folder / "log").read_text() or process.poll(),
            "up did not come up",
        )
        assert process.poll() is None, (open_folder / "log").read_text()
        yield process
    finally:
        process.terminate()  # a killed one leaves its servers to end after it, and the folder is removed next
        process.wait(WAIT_S)


def test_everything_that_is_embedded_works_together(
    up: subprocess.Popen[str], environment: dict[str, str]
) -> None:
    done = command(environment, "flags", "set", "ml-agent-rollout", "20", "--why", "a test", "--json")
    assert done.returncode == 0, done.stderr
    flag = json.loads(done.stdout)
    assert (flag["percentage"], flag["version"], flag["why"]) == (20.0, 1, "a test")
    again = json.loads(command(environment, "flags", "set", "ml-agent-rollout", "5", "--json").stdout)
    assert (again["version"], again["seed"]) == (2, flag["seed"])
    assert json.loads(command(environment, "flags", "get", "ml-agent-rollout", "--json").stdout) == again

    def known() -> bool:
        report = json.loads(command(environment, "status", "--json").stdout)
        return bool(report["flags"] == {"ml-agent-rollout": 5.0})

    until(known, "the worker did not learn the flag")
    assert command(environment, "topics", "check").returncode == 0
    assert command(environment, "db", "status").returncode == 0
    assert command(environment, "db", "migrate").stdout == "nothing to do\n"
    doctor = command(environment, "doctor", "--json")
    assert {check["state"] for check in json.loads(doctor.stdout)} == {"ok"}, doctor.stdout
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
    assert command(environment, "status").returncode == 3


def test_a_worker_that_was_killed_is_back_and_the_addresses_with_it(
    up: subprocess.Popen[str], environment: dict[str, str], open_folder: Path
) -> None:
    file = open_folder / "data" / "run" / "pointsman.json"
    before = json.loads(file.read_text())["ops"]["worker"]
    os.kill(listener(children(up.pid), before), signal.SIGKILL)
    until(lambda: json.loads(file.read_text())["ops"]["worker"] != before, "no new address")
    until(lambda: command(environment, "status").returncode == 0, "not healthy again")


def test_a_worker_on_a_real_broker_makes_its_topics_and_drains(
    kafka: Kafka, topic_prefix: str, environment: dict[str, str]
) -> None:
    there = ("--kafka", kafka.bootstrap, "--topic-prefix", topic_prefix)
    assert command(environment, "topics", "check", *there).returncode == 1
    missing = command(environment, "worker", *there, "--lanes", "decisions")
    assert missing.returncode == 1
    assert "topics create" in missing.stderr
    made = command(environment, "topics", "create", *there, "--partitions", "3", "--json")
    assert made.returncode == 0, made.stderr
    assert len(json.loads(made.stdout)["created"]) == len(topics.ALL)
    assert command(environment, "topics", "check", *there).returncode == 0
    worker = subprocess.Popen(
        [*COMMAND, "worker", *there, "--lanes", "decisions", "--group", topic_prefix],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stderr is not None
    lines = []
    for line in worker.stderr:
        lines.append(line)
        if "partitions assigned" in line:
            break
    worker.send_signal(signal.SIGTERM)
    _, rest = worker.communicate(timeout=60)
    assert worker.returncode == 0, "".join(lines) + rest
    assert "stopped" in rest
