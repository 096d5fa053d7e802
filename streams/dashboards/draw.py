"""A dashboard from its queries to its page, or to pictures."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

from pointsman.streams.dashboards import ask
from pointsman.streams.dashboards.ask import PrometheusUnavailable, Series, Window
from pointsman.streams.dashboards.page import page
from pointsman.streams.dashboards.panels import Dashboard, Panel, slug
from pointsman.streams.dashboards.picture import Shown, alone
from pointsman.streams.store.pool import Connection

UNASKED = "some of it stands in Prometheus: name it with --prometheus"
Changes: TypeAlias = list[tuple[float, str]]


async def drawn(
    connection: Connection, dashboard: Dashboard, window: Window, prometheus: str = ""
) -> tuple[str, dict[str, str]]:
    """The page, and each panel as SVG by its title's slug. A Prometheus that does not answer costs its own panels only."""
    shown, changes = await _found(connection, dashboard, window, prometheus)
    pictures = {slug(each.panel.title): alone(each, window, changes) for each in shown}
    return page(dashboard, window, shown, changes), pictures


async def _found(
    connection: Connection, dashboard: Dashboard, window: Window, prometheus: str
) -> tuple[list[Shown], Changes]:
    shown = [await _shown(connection, panel, window, prometheus) for panel in dashboard.panels]
    if dashboard.changes is None:
        return shown, []
    found = await ask.rows(connection, dashboard.changes, window)
    return shown, [(at.timestamp(), str(what)) for at, what in found]


async def _shown(connection: Connection, panel: Panel, window: Window, prometheus: str) -> Shown:
    series: Series = {}
    why_not = ""
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
