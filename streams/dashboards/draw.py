"""A dashboard's queries asked, and what was found for its panels."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import msgspec

from pointsman.streams.dashboards import ask
from pointsman.streams.dashboards.ask import PrometheusUnavailable, Series, Window
from pointsman.streams.dashboards.panels import Dashboard, Panel
from pointsman.streams.dashboards.picture import Shown
from pointsman.streams.store.pool import Connection

UNASKED = "some of it stands in Prometheus: name it with --prometheus"
Changes: TypeAlias = list[tuple[float, str]]


async def found(
    connection: Connection, dashboard: Dashboard, window: Window, prometheus: str = ""
) -> tuple[list[Shown], Changes]:
    """Every panel, and when what was changed (seconds since 1970). A Prometheus that is away costs its own panels only."""
    shown = [await _shown(connection, panel, window, prometheus) for panel in dashboard.panels]
    if dashboard.changes is None:
        return shown, []
    changed = await ask.rows(connection, dashboard.changes, window)
    return shown, [(at.timestamp(), str(what)) for at, what in changed]


async def _shown(connection: Connection, panel: Panel, window: Window, prometheus: str) -> Shown:
    series: Series = {}
    why_not = ""
    window = msgspec.structs.replace(window, points=panel.points)
    for query in panel.queries:
        if query.sql:
            series |= await ask.of_database(connection, query, window)
        elif not prometheus:
            why_not = UNASKED
        else:
            try:
                series |= await asyncio.to_thread(ask.of_prometheus, prometheus, query, window)
            except PrometheusUnavailable as error:
                why_not = str(error)
    return Shown(panel, series, why_not)
