"""The panels' queries, asked as Grafana asks them: of the database, and of Prometheus where there is one."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode
from urllib.request import urlopen

from msgspec import Struct

from pointsman.schemas.errors import PointsmanError
from pointsman.streams.dashboards.panels import POINTS, Query
from pointsman.streams.store.pool import Connection

Series: TypeAlias = dict[str, list[tuple[float, float]]]
"""Metric to its points: x (seconds since 1970, or what the panel has in its place) and value, x rising."""
_STEPS_S: Final = (
    (90, 60), (210, 120), (450, 300), (750, 600), (1_050, 900), (1_500, 1_200), (2_700, 1_800), (5_400, 3_600),
    (9_000, 7_200), (16_200, 10_800), (32_400, 21_600), (86_400, 43_200), (604_800, 86_400),
)  # fmt: skip
"""Below so many seconds a point the step is so wide: Grafana's own table, from a minute on."""
_WEEK_S: Final = 604_800
_PLACE: Final = re.compile(r"\{\{(\w+)\}\}")
_PROMETHEUS_S: Final = 10.0


class PrometheusUnavailable(PointsmanError):
    """Prometheus does not answer, or not as asked."""


class Window(Struct, frozen=True):
    """What is looked at: an agent's decisions from ``start`` up to, without, ``end``, in steps."""

    agent: str
    start: datetime
    end: datetime
    points: int = POINTS
    """About so many steps: a panel's own number."""

    @property
    def step(self) -> timedelta:
        """As Grafana chooses it for so many points: whole minutes, or whole hours."""
        wanted = (self.end - self.start).total_seconds() / self.points
        return timedelta(seconds=next((step for below, step in _STEPS_S if wanted < below), _WEEK_S))


async def rows(connection: Connection, query: Query, window: Window) -> list[tuple[Any, ...]]:
    """What the database answers; Grafana's words are parameters here."""
    text = query.sql.replace("%", "%%")
    for word, name in (
        ("'$agent'", "agent"),
        ("$__timeFrom()", "start"),
        ("$__timeTo()", "end"),
        ("'$__interval'", "step"),
    ):
        text = text.replace(word, f"%({name})s")
    values = {"agent": window.agent, "start": window.start, "end": window.end, "step": window.step}
    return await (await connection.execute(text.encode(), values)).fetchall()


async def of_database(connection: Connection, query: Query, window: Window) -> Series:
    """The rows (time or x, metric, value) as series."""
    found: Series = {}
    for x, metric, value in await rows(connection, query, window):
        if value is not None:
            at = x.timestamp() if isinstance(x, datetime) else float(x)
            found.setdefault(str(metric), []).append((at, float(value)))
    return found


def of_prometheus(url: str, query: Query, window: Window) -> Series:
    """What Prometheus answers. Blocks. Raises `PrometheusUnavailable`."""
    asked = {
        "query": query.promql.replace("$agent", window.agent),
        "start": window.start.timestamp(),
        "end": window.end.timestamp(),
        "step": window.step.total_seconds(),
    }
    try:
        address = f"{url.rstrip('/')}/api/v1/query_range?{urlencode(asked)}"
        with urlopen(address, timeout=_PROMETHEUS_S) as answer:  # noqa: S310 - checked where it is given
            result = json.load(answer)["data"]["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"Prometheus at {url} does not answer {query.name}: {error}"
        raise PrometheusUnavailable(msg) from error
    found: Series = {}
    for each in result:
        points = [(float(at), float(value)) for at, value in each["values"]]
        found[_legend(query, each["metric"])] = [point for point in points if math.isfinite(point[1])]
    return found


def _legend(query: Query, labels: dict[str, str]) -> str:
    """The series' name: the legend with its labels; where it has none of them (a `vector(0)`), the query's."""
    text = _PLACE.sub(lambda found: labels.get(found[1], ""), query.legend)
    return text.strip() or query.name
