"""From a figure that breaks its limit to mail, Slack and webhook, through the files as they ship, within a minute."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from pointsman.streams.alerts import everything
from tests.support.monitors import Alertmanager, Prometheus
from tests.support.receivers import HttpReceiver, Mail, MailServer, Post

AGENT = "documentation-keeper"
MINUTE_S = 60.0
ALL_FIVE = {"SuccessLow", "LatencyHigh", "FeatureErrors", "SatisfactionLow", "NoTrafficOrModelDown"}


class Latencies(Collector):
    """As a worker exports them: 10 requests in all within 0.1 s, then all above it."""

    def __init__(self) -> None:
        self.slow = 0

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily("pointsman_decision_seconds", "Test.", labels=["agent", "arm"])
        count = 10.0 + self.slow
        buckets = [("0.1", 10.0), ("0.2", count), ("1.0", count), ("+Inf", count)]
        family.add_metric([AGENT, "candidate"], buckets, 1.0)
        yield family


class Exporter:
    """A worker's metrics, which are good until told otherwise."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        windowed = ["agent", "arm", "window"]
        self._gauges = {
            name: Gauge(f"pointsman_{name}", "Test.", windowed, registry=registry).labels(
                AGENT, "candidate", "24h"
            )
            for name in ("success_ratio", "success_labels", "satisfaction", "satisfaction_signals")
        }
        self._model = Gauge("pointsman_model_available", "Test.", ["agent"], registry=registry).labels(AGENT)
        self._errors = Counter("pointsman_feature_errors", "Test.", ["agent"], registry=registry).labels(
            AGENT
        )
        decisions = Counter("pointsman_decisions", "Test.", ["agent", "arm", "source"], registry=registry)
        self._decisions = decisions.labels(AGENT, "candidate", "ml")
        partitions = Gauge("pointsman_partitions", "Test.", ["lane"], registry=registry)
        for lane in ("decisions", "sink"):
            partitions.labels(lane).set(4)
        self._latencies = Latencies()
        registry.register(self._latencies)
        self._set(success=0.9, satisfaction=4.2, model=1)
        self._server, self._thread = start_http_server(0, "127.0.0.1", registry)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def _set(self, *, success: float, satisfaction: float, model: int) -> None:
        self._gauges["success_ratio"].set(success)
        self._gauges["success_labels"].set(80)
        self._gauges["satisfaction"].set(satisfaction)
        self._gauges["satisfaction_signals"].set(40)
        self._model.set(model)
        self._decisions.inc(100)

    def breaks(self) -> None:
        """Everything at once is as bad as it may not be."""
        self._set(success=0.61, satisfaction=2.4, model=0)
        self._errors.inc(3)
        self._latencies.slow = 500

    def stop(self) -> None:
        """Export no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    yield made
    made.stop()


@pytest.fixture
def servers(
    monitors: None,
    tmp_path: Path,
    exporter: Exporter,
    mail: tuple[MailServer, str],
    web: HttpReceiver,
    secrets: Path,
) -> Iterator[tuple[Prometheus, Alertmanager]]:
    """Both with the files as they ship, but for the addresses: intervals and waits too."""
    options: dict[str, object] = {
        "smtp": mail[1],
        "smtp-user": "pointsman",
        "mail-from": "pointsman@example.org",
        "mail-to": "on-call@example.org",
        "webhook": f"{web.url}/alerts",
        "secrets": str(secrets),
        "workers": [exporter.address],
        "models": [],
    }
    written = tmp_path / "written"
    _write(written, options)
    alertmanager = Alertmanager(written, tmp_path / "alertmanager")
    _write(written, {**options, "alertmanager": [alertmanager.address]})
    prometheus = Prometheus(written, tmp_path / "prometheus")
    yield prometheus, alertmanager
    prometheus.stop()
    alertmanager.stop()


def _write(folder: Path, options: dict[str, object]) -> None:
    for path, content in everything([AGENT], options).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def until(true: Callable[[], bool], timeout_s: float) -> None:
    """Wait until it is true; what stands behind it has no other way to be waited for."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def firing(prometheus: Prometheus) -> set[str]:
    return {each["labels"]["alertname"] for each in prometheus.alerts() if each["state"] == "firing"}


def test_from_cause_to_message_in_less_than_a_minute(
    servers: tuple[Prometheus, Alertmanager],
    exporter: Exporter,
    mail: tuple[MailServer, str],
    web: HttpReceiver,
) -> None:
    prometheus, alertmanager = servers
    # The operator's count: of all rules those whose name has the agent's in it.
    found = prometheus.rules()
    assert {rule["type"] for rule in found} == {"alerting"}
    assert len([rule for rule in found if "DocumentationKeeper" in rule["name"]]) == 5
    until(
        lambda: "pointsman_success_ratio" in str(prometheus.get("/api/v1/label/__name__/values")["data"]), 30
    )
    until(lambda: prometheus.alerts() == [], 30)  # before the first scrape it might have been silence

    exporter.breaks()
    cause = time.monotonic()

    def told(name: str, path: str) -> Post:
        def about(post: Post) -> bool:
            return post.path == path and f"DocumentationKeeper{name}" in str(post.json)

        return web.posts.wait(about, MINUTE_S, alertmanager.log)

    def mailed(name: str) -> Mail:
        subject = f"[CRITICAL] DocumentationKeeper{name} of {AGENT}"
        return mail[0].mails.wait(lambda each: each.message["Subject"] == subject, MINUTE_S, alertmanager.log)

    for name in ("SuccessLow", "SatisfactionLow"):
        for message in (mailed(name), told(name, "/slack"), told(name, "/alerts")):
            assert message.at - cause < MINUTE_S
    _check_texts(mailed("SuccessLow"), told("SuccessLow", "/slack"), told("SuccessLow", "/alerts"))

    # The lesser ones fire too, and are silent beside the critical ones of their agent.
    until(lambda: firing(prometheus) == {f"DocumentationKeeper{name}" for name in ALL_FIVE}, 30)
    until(lambda: len(alertmanager.alerts()) == 5, 30)
    states = {each["labels"]["alertname"]: each["status"]["state"] for each in alertmanager.alerts()}
    silent = {
        name.removeprefix("DocumentationKeeper") for name, state in states.items() if state == "suppressed"
    }
    assert silent == {"LatencyHigh", "FeatureErrors", "NoTrafficOrModelDown"}


def _check_texts(mail: Mail, slack: Post, webhook: Post) -> None:
    summary = f"{AGENT}, candidate: success 0.610 over 24h, below 0.75"
    words = " ".join(mail.text.split())
    for needed in (
        summary,
        "is 0.610 (0 to 1) over the last 24h; at least 0.75 is asked for, and judged from 50 labels on.",
        "What to do: docs/runbooks.md#successlow",
    ):
        assert needed in words
    assert re.search(r"Since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\.", words)
    assert mail.receivers == ["on-call@example.org"]

    (attachment,) = slack.json["attachments"]
    assert slack.json["channel"] == "#pointsman"
    assert attachment["title"] == f"[CRITICAL] DocumentationKeeperSuccessLow of {AGENT}"
    assert summary in attachment["text"]
    assert attachment["color"] == "danger"

    (alert,) = webhook.json["alerts"]
    assert webhook.authorization == "Bearer token-secret"
    assert alert["status"] == "firing"
    assert alert["labels"] == {
        "alertname": "DocumentationKeeperSuccessLow",
        "agent": AGENT,
        "arm": "candidate",
        "window": "24h",
        "severity": "critical",
    }
    assert alert["annotations"]["summary"] == summary
    assert alert["annotations"]["runbook_url"] == "docs/runbooks.md#successlow"
