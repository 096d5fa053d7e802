"""The page: well-formed, nothing from elsewhere, and every figure where it belongs."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.dashboards import panels
from pointsman.streams.dashboards.ask import PrometheusUnavailable, Series, Window, of_prometheus
from pointsman.streams.dashboards.page import page
from pointsman.streams.dashboards.panels import POINTS, Dashboard, Panel, Threshold
from pointsman.streams.dashboards.picture import Shown, number

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
WINDOW = Window("keeper", START, START + timedelta(hours=1))
AT = START.timestamp()


def panel(**changes: object) -> Panel:
    known: dict[str, object] = {"title": "A <panel>", "description": "It shows.", "unit": "ms", "queries": ()}
    return Panel(**{**known, **changes})  # type: ignore[arg-type]


def drawn(*shown: Shown, changes: list[tuple[float, str]] | None = None) -> str:
    dashboard = Dashboard(title="A & B", description="All.", panels=tuple(each.panel for each in shown))
    return page(dashboard, WINDOW, shown, changes or [])


def pictures(text: str) -> list[ET.Element]:
    return [ET.fromstring(each) for each in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


values = st.floats(-1e6, 1e6)
series = st.dictionaries(
    st.text(max_size=8),
    st.lists(st.tuples(st.floats(AT, AT + 3600), values), max_size=6).map(sorted),
    max_size=4,
)


@given(
    series, st.sampled_from(["lines", "stacked", "bars"]), st.none() | st.just(0.0), st.none() | st.just(1.0)
)
def test_any_figures_make_a_picture_within_its_frame(
    found: Series, kind: str, least: float | None, greatest: float | None
) -> None:
    text = drawn(Shown(panel(kind=kind, least=least, greatest=greatest), found))
    assert "nan" not in text
    for picture in pictures(text):
        for line in picture.iter("polyline"):
            for point in (line.get("points") or "").split():
                x, y = map(float, point.split(","))
                assert -1 <= x <= 641
                assert -1 <= y <= 261


def test_nothing_comes_from_elsewhere_and_names_are_no_markup() -> None:
    text = drawn(Shown(panel(), {"<b>": [(AT, 1.0)]}))
    assert not re.search(r"(src|href)=|<script|url\(|@import", text)
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "A &lt;panel&gt;" in text
    assert "A &amp; B" in text


def test_a_panel_without_figures_says_why() -> None:
    assert "no data" in drawn(Shown(panel(), {}))
    assert "Prometheus is away" in drawn(Shown(panel(), {}, "Prometheus is away"))
    assert "Prometheus is away" in drawn(Shown(panel(), {"a": [(AT, 1.0)]}, "Prometheus is away"))


def test_an_interval_is_drawn_around_its_line_and_told_beside_it() -> None:
    found: Series = {"a": [(AT, 0.5)], "a low": [(AT, 0.25)], "a high": [(AT, 0.75)]}
    text = drawn(Shown(panel(unit="percentunit", least=0, greatest=1), found))
    assert "a: 50 % (25 % to 75 %)" in text
    (picture,) = pictures(text)
    assert len(list(picture.iter("polygon"))) == 1
    assert len(list(picture.iter("polyline"))) == 1


def test_stacked_figures_stand_on_each_other() -> None:
    found: Series = {"a": [(AT, 1.0), (AT + 60, 1.0)], "b": [(AT, 1.0), (AT + 60, 3.0)]}
    (picture,) = pictures(drawn(Shown(panel(kind="stacked", least=0, greatest=4), found)))
    tops = {
        min(float(point.split(",")[1]) for point in (line.get("points") or "").split())
        for line in picture.iter("polyline")
    }
    assert min(tops) == pytest.approx(12.0)  # 1 + 3 of 4: the top of the frame


def test_thresholds_and_changes_are_marked() -> None:
    limited = panel(thresholds=(Threshold(0, "green"), Threshold(100, "red")), least=0, greatest=200)
    text = drawn(
        Shown(limited, {"a": [(AT, 150.0)]}), changes=[(AT + 600, "version 2: 20 %"), (AT - 600, "before")]
    )
    assert text.count('stroke-dasharray="6 4"') == 1
    assert "version 2: 20 %" in text
    assert "before" not in text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.8333, "percentunit", "83.3 %"),
        (12.0, "ms", "12 ms"),
        (0.4, "ops", "0.40 /s"),
        (1234.5, "short", "1,234"),
        (0.0, "s", "0 s"),
    ],
)
def test_numbers_are_for_people(value: float, unit: str, shown: str) -> None:
    assert number(value, unit) == shown


@given(st.integers(1, 60 * 24 * 30))
def test_steps_are_whole_minutes_or_hours_and_not_too_many(minutes: int) -> None:
    window = Window("keeper", START, START + timedelta(minutes=minutes))
    assert window.step.total_seconds() % (60 if window.step < timedelta(hours=1) else 3600) == 0
    assert timedelta(minutes=minutes) / window.step <= 1.75 * POINTS


def test_steps_are_those_of_grafana() -> None:
    """As it rounds what is left for a point of 60: 6, 24 and 48 minutes, 2.8 and 12 hours."""
    hours = {6: 5, 24: 20, 48: 60, 7 * 24: 180, 30 * 24: 720}
    for wide, minutes in hours.items():
        assert Window("keeper", START, START + timedelta(hours=wide)).step == timedelta(minutes=minutes)


def test_every_dashboard_of_an_agent_can_be_drawn_empty() -> None:
    for dashboard in (panels.of_model("a"), panels.of_rollout("a"), panels.of_pipeline()):
        text = page(dashboard, WINDOW, [Shown(each, {}) for each in dashboard.panels], [])
        assert text.count("<section>") == len(dashboard.panels)


def test_prometheus_answers_become_series_named_by_their_legend() -> None:
    answer = {
        "status": "success",
        "data": {
            "result": [
                {"metric": {"lane": "sink"}, "values": [[AT, "1.5"], [AT + 60, "NaN"]]},
                {"metric": {}, "values": [[AT, "0"]]},
            ]
        },
    }
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Nothing to standard error."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        query = panels.prom("records", 'rate(x{agent="$agent"}[1m])', "{{lane}}")
        found = of_prometheus(f"http://127.0.0.1:{server.server_port}/", query, WINDOW)
    finally:
        server.shutdown()
        server.server_close()
    assert found == {"sink": [(AT, 1.5)], "records": [(AT, 0.0)]}
    assert parse_qs(asked[0].partition("?")[2]) == {
        "query": ['rate(x{agent="keeper"}[1m])'],
        "start": [str(AT)],
        "end": [str(AT + 3600)],
        "step": ["60.0"],
    }


def test_a_prometheus_that_is_away_is_named() -> None:
    with pytest.raises(PrometheusUnavailable, match="does not answer records"):
        of_prometheus("http://127.0.0.1:1", panels.prom("records", "up"), WINDOW)
