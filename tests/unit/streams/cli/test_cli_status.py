"""`status` and `doctor`: what they find, and the exit code that says so."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pointsman.streams import local
from pointsman.streams.cli.doctor import examine
from pointsman.streams.settings import Settings

HEALTH: dict[str, Any] = {
    "healthy": True,
    "ready": True,
    "lanes": {
        "decisions": {
            "healthy": True, "ready": True, "partitions": [0, 1], "lag_records": 7,
            "stalled_partitions": [], "failures": {},
        }
    },
    "models": {"documentation-keeper": {"version": "2026.1.1", "breaker": "closed"}},
    "flags": {"ml-agent-rollout": 20.0},
}  # fmt: skip
FIGURES = {
    "decisions": 5, "by_ml": 1, "fallbacks": {"model_timeout": 2}, "escalations": 1, "agreement": 0.5,
    "latency_p50_ms": 12.0, "latency_p95_ms": 20.0,
}  # fmt: skip
LIVE = {"documentation-keeper": {"candidate": {"last_minute": FIGURES}, "control": {"last_minute": None}}}


@contextmanager
def port(health: dict[str, Any], live: dict[str, Any] | None = None) -> Iterator[str]:
    """An operations port that answers with these."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/health": health, "/live": live}.get(self.path)
            good = found is not None and found.get("healthy", True)
            self.send_response(200 if good else 503 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found or {"error": "none"}).encode())

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_healthy_is_0_and_shows_lanes_models_flags_and_live_figures(pointsman: Callable[..., Any]) -> None:
    with port(HEALTH, LIVE) as url:
        ran = pointsman("status", "--ops", url)
        as_json = json.loads(pointsman("status", "--ops", url, "--json").out)
    assert ran.code == 0
    for part in ("healthy", "decisions", "2026.1.1", "ml-agent-rollout", "20 %", "last minute"):
        assert part in ran.out
    assert as_json["live"] == LIVE
    assert as_json["flags"] == {"ml-agent-rollout": 20.0}


def test_one_that_is_not_healthy_is_1(pointsman: Callable[..., Any]) -> None:
    lane = HEALTH["lanes"]["decisions"] | {"healthy": False, "stalled_partitions": [1]}
    with port(HEALTH | {"healthy": False, "lanes": {"decisions": lane}}) as url:
        ran = pointsman("status", "--ops", url)
    assert ran.code == 1
    assert "STALLED [1]" in ran.out


def test_a_halted_lane_says_why_and_the_doctor_names_it_with_the_mend(
    pointsman: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "topic decision-requests had 4 partitions and has 6"
    lane = HEALTH["lanes"]["decisions"] | {"healthy": False, "stalled_partitions": [], "halted": why}
    with port(HEALTH | {"healthy": False, "lanes": {"decisions": lane}}) as url:
        ran = pointsman("status", "--ops", url)
        running = local.Running(pid=1, kafka="", dsn="", ops={"decider": url})
        monkeypatch.setattr(local, "read", lambda _settings: running)
        (found,) = [check for check in asyncio.run(examine(Settings())) if check.what == "workers"]
    assert ran.code == 1
    assert "HALTED" in ran.out
    assert found.found == f"lane decisions halted: {why}"
    assert "restart every worker" in found.mend


def test_one_that_does_not_answer_beside_one_that_does_is_1(pointsman: Callable[..., Any]) -> None:
    with port(HEALTH) as url:
        ran = pointsman("status", "--ops", url, "--ops", "http://127.0.0.1:1")
    assert ran.code == 1
    assert "http://127.0.0.1:1 does not answer" in ran.out


def test_nothing_that_answers_is_3(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("status", "--ops", "http://127.0.0.1:1", "--json")
    assert ran.code == 3
    assert json.loads(ran.out)["healthy"] is None


def checks(pointsman: Callable[..., Any], *words: str) -> tuple[int, dict[str, dict[str, str]]]:
    ran = pointsman("doctor", "--json", *words)
    return ran.code, {check["what"]: check for check in json.loads(ran.out)}


def test_the_doctor_finds_nothing_wrong_where_nothing_runs_yet(pointsman: Callable[..., Any]) -> None:
    code, found = checks(pointsman, "--set", "metrics_port=0")
    assert code == 0, found
    assert found["Kafka"]["state"] == "absent"
    assert found["Kafka"]["mend"] == "pointsman up, or POINTSMAN_KAFKA"
    assert found["agent documentation-keeper"]["state"] == "ok"


def test_the_doctor_names_servers_that_do_not_answer(pointsman: Callable[..., Any]) -> None:
    dsn = "postgresql://me:geheim@127.0.0.1:1/x"
    code, found = checks(pointsman, "--kafka", "127.0.0.1:1", "--dsn", dsn, "--set", "metrics_port=0")
    assert code == 1
    assert found["Kafka"]["state"] == found["topics"]["state"] == found["database"]["state"] == "wrong"
    assert "127.0.0.1:1" in found["Kafka"]["found"]
    assert "geheim" not in json.dumps(found)


def test_the_doctor_names_a_port_that_is_taken(pointsman: Callable[..., Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        code, found = checks(pointsman, "--set", f"metrics_port={number}")
    assert code == 1
    assert str(number) in found["operations ports"]["found"]


@pytest.mark.parametrize("name", ["BAD", "1x", "", "a b"])
def test_a_flag_of_an_impossible_name_is_bad_usage(pointsman: Callable[..., Any], name: str) -> None:
    ran = pointsman("flags", "set", name, "5", "--kafka", "127.0.0.1:1")
    assert ran.code == 2
    assert "is no flag name" in ran.err


@pytest.mark.parametrize("percent", ["-1", "100.5", "many"])
def test_a_percentage_out_of_range_is_bad_usage(pointsman: Callable[..., Any], percent: str) -> None:
    assert pointsman("flags", "set", "ml-agent-rollout", "--", percent).code == 2
