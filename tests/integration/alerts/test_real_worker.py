"""Real workers under the rules and panels that ship: nothing rings where all is well, and every panel shows something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pointsman.streams.dashboards import panels
from pointsman.streams.dashboards.ask import Window, of_prometheus
from tests.support.commands import pointsman
from tests.support.monitors import Prometheus
from tests.support.pipeline import request

AGENT = "documentation-keeper"
WAIT_S = 90
QUICK = {"pipeline", "documentation-keeper"}
"""The groups that are evaluated every five seconds."""


def until(met: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := met()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


@pytest.fixture
def up(monitors: None, open_folder: Path) -> Iterator[dict[str, Any]]:
    """`pointsman up` with embedded servers: one worker decides, another writes rows. Where they are, as it wrote it."""
    environment = {
        **os.environ,
        "POINTSMAN_DATA_DIR": str(open_folder / "data"),
        "POINTSMAN_METRICS_PORT": "0",
    }
    log = open_folder / "log"
    with log.open("w") as output:
        command = [sys.executable, "-P", "-m", "pointsman.streams.cli", "up"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        until(lambda: "pointsman runs" in log.read_text() or process.poll() is not None, "up did not come up")
        assert process.poll() is None, log.read_text()
        yield json.loads((open_folder / "data" / "run" / "pointsman.json").read_text())
    finally:
        process.terminate()
        process.wait(WAIT_S)


@pytest.fixture
def prometheus(up: dict[str, Any], tmp_path: Path) -> Iterator[Prometheus]:
    """With the files that the command writes for the addresses of these workers."""
    workers = ",".join(each.removeprefix("http://") for each in up["ops"].values())
    written = tmp_path / "written"
    done = pointsman(
        {}, "alerts", "write", str(written), "--workers", workers, "--models", "", "--alertmanager", ""
    )
    assert done.code == 0, done.err
    server = Prometheus(written, tmp_path / "prometheus")
    yield server
    server.stop()


def scraped(prometheus: Prometheus) -> bool:
    found = prometheus.get("/api/v1/query?query=count(up%7Bjob%3D%22pointsman%22%7D%3D%3D1)")["data"][
        "result"
    ]
    return bool(found) and found[0]["value"][1] == "2"


def evaluated_since(prometheus: Prometheus, moment: float) -> bool:
    groups = prometheus.get("/api/v1/rules")["data"]["groups"]
    last = {each["name"]: datetime.fromisoformat(each["lastEvaluation"]) for each in groups}
    return all(last[name].timestamp() > moment for name in QUICK)


def test_nothing_rings_while_all_is_well_and_the_first_dead_letter_does(
    up: dict[str, Any], prometheus: Prometheus
) -> None:
    until(lambda: scraped(prometheus), "the workers were not scraped")
    now = time.time()
    until(lambda: evaluated_since(prometheus, now), "no rule was evaluated")
    assert {rule["health"] for rule in prometheus.rules()} <= {"ok", "unknown"}  # unknown: not evaluated yet
    assert prometheus.alerts() == []

    producer = Producer({"bootstrap.servers": up["kafka"]})
    producer.produce("decision-requests", b"no json", key=b"r1")
    assert producer.flush(30) == 0
    (alert,) = until(prometheus.alerts, "the dead letter did not ring")
    assert alert["labels"] == {
        "alertname": "PointsmanDeadLetters",
        "lane": "decisions",
        "reason": "not_json",
        "severity": "info",
    }
    assert alert["state"] == "firing"


def test_every_panel_that_asks_prometheus_shows_what_real_workers_export(
    up: dict[str, Any], prometheus: Prometheus
) -> None:
    producer = Producer({"bootstrap.servers": up["kafka"]})
    for number in range(50):
        key, value = request(number)
        producer.produce("decision-requests", value, key)
        told = {"id": "e", "decision_id": f"r-{number}", "agent": AGENT, "label": "docs_needed"}
        told["observed_at"] = "2026-11-01T12:00:00Z"
        producer.produce("decision-feedback", json.dumps(told).encode(), key)
    producer.produce("decision-requests", b"no json", key=b"r1")
    assert producer.flush(30) == 0
    began = datetime.now(UTC) - timedelta(seconds=30)
    boards = (panels.of_model(AGENT), panels.of_rollout(AGENT), panels.of_pipeline())
    asked = [query for board in boards for panel in board.panels for query in panel.queries if query.promql]
    assert len(asked) >= 12
    address = f"http://{prometheus.address}"

    def shown(query: panels.Query) -> Any:
        return of_prometheus(address, query, Window(AGENT, began, datetime.now(UTC)))

    for query in asked:
        until(lambda query=query: shown(query), f"{query.name} shows nothing: {query.promql}")
    (success,) = [query for query in asked if query.name == "success"]
    assert shown(success).keys() >= {"control 1h", "control 24h"}
    (database,) = [query for query in asked if query.name == "database"]
    assert {value for _, value in shown(database)["database"]} == {1.0}, (
        "the worker without a sink is no database that is down"
    )
