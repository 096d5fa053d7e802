"""The operations port of a process: `/metrics`, `/health`, `/ready`, and `/live` where it keeps live figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from mode import Service
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

Report = Callable[[], Mapping[str, Any]]


class Ops(Service):
    """Serves the figures. ``health`` returns ``healthy``, ``ready`` and parts; 503 where they are false."""

    abstract = False

    def __init__(
        self,
        *,
        host: str,
        port: int,
        health: Report,
        live: Report | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self._health = health
        self._live = live
        self._registry = registry
        self._runner: web.AppRunner | None = None

    async def on_start(self) -> None:
        """Listen; with port 0, `port` then says which it became."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health", self._healthy)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/live", self._figures)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        self._health()  # brings the gauges up to date
        # As Prometheus' own exporters have it: with many agents all of them take some 20 ms, in which nobody decides.
        names = request.query.getall("name[]", [])
        registry = self._registry.restricted_registry(names) if names else self._registry
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthy(self, _request: web.Request) -> web.Response:
        report = self._health()
        return _json(report, 200 if report["healthy"] else 503)

    async def _ready(self, _request: web.Request) -> web.Response:
        report = self._health()
        return _json({"ready": report["ready"]}, 200 if report["ready"] else 503)

    async def _figures(self, _request: web.Request) -> web.Response:
        if self._live is None:
            return _json(
                {"error": "this process keeps no live figures; the worker with lane `live` does"}, 404
            )
        return _json(self._live(), 200)


def _json(value: Mapping[str, Any], status: int) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=str)
    return web.Response(body=body, status=status, content_type="application/json")
