"""What a model server shows of itself: `/metrics` for Prometheus and `/health`, from a thread of its own.

A thread, so that both answer while a model computes, and `/health` can say that it does so for too long.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pointsman.streams.model.protocol import Lane, ModelInfo, Status

logger = logging.getLogger(__name__)

BEAT_S: Final = 0.5
STILL_S: Final = 5.0
"""Without a heartbeat of the loop for so long the server is not healthy: no batch takes so long to score."""
_SECONDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.1, 0.5, 2.5)


class ServerMetrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "pointsman_model_requests",
            "Requests answered.",
            ["agent", "lane", "status"],
            registry=self.registry,
        )
        self._rows = Counter(
            "pointsman_model_rows", "Rows scored.", ["agent", "lane"], registry=self.registry
        )
        self._seconds = Histogram(
            "pointsman_model_seconds",
            "Scoring of one batch.",
            ["agent"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._loaded = Gauge(
            "pointsman_model_loaded",
            "1 for every model in memory.",
            ["agent", "version"],
            registry=self.registry,
        )
        self._broken = Gauge(
            "pointsman_model_broken",
            "1 for every model that could not be loaded.",
            ["agent"],
            registry=self.registry,
        )

        self._known: dict[tuple[str, Lane], tuple[Counter, Counter, Histogram]] = {}
        """By labels: of a small question, to look for three metrics by their labels is a good part."""

    def loaded(self, models: Sequence[ModelInfo], broken: Mapping[str, str]) -> None:
        """What the server starts with."""
        for model in models:
            self._loaded.labels(model.agent, model.version).set(1)
        for agent in broken:
            self._broken.labels(agent).set(1)

    def answered(self, agent: str, lane: Lane, status: Status, rows: int, seconds: float) -> None:
        """A request is done."""
        if status is not Status.OK:
            self._requests.labels(agent, lane.name.lower(), status.name.lower()).inc()
            return
        known = self._known.get((agent, lane))
        if known is None:
            name = lane.name.lower()
            known = self._known[agent, lane] = (
                self._requests.labels(agent, name, status.name.lower()),
                self._rows.labels(agent, name),
                self._seconds.labels(agent),
            )
        requests, rows_, seconds_ = known
        requests.inc()
        rows_.inc(rows)
        seconds_.observe(seconds)


class Pulse:
    """The loop beats it, the thread reads it."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def beat(self) -> None:
        """The loop goes round."""
        self._at = time.monotonic()

    @property
    def still_s(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._at


def serve_metrics(host: str, port: int, metrics: ServerMetrics, pulse: Pulse) -> ThreadingHTTPServer | None:
    """Listen in the background; None, and a line in the log, where the port cannot be had.

    Scoring goes on without it: figures are no reason to answer no decision.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._reply(200, generate_latest(metrics.registry), CONTENT_TYPE_LATEST)
            elif self.path in ("/health", "/ready"):
                healthy = pulse.still_s < STILL_S
                body = json.dumps({"healthy": healthy, "still_s": round(pulse.still_s, 3)})
                self._reply(200 if healthy else 503, body.encode(), "application/json")
            else:
                self._reply(404, b"/metrics, /health\n", "text/plain")

        def _reply(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            logger.debug(format, *args)

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        logger.error("no metrics: %s:%d cannot be had: %s", host, port, error.strerror)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
