"""Dashboards in Grafana's own form, built with its Foundation SDK (the extra ``grafana``)."""

from __future__ import annotations

import json
import warnings
from typing import Any, Final

with warnings.catch_warnings():
    # It would rather have the form of Grafana 13; the classic one is what all that are in use read from files.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import barchart, common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

from pointsman.streams.dashboards.panels import Dashboard, Panel, Query

DATABASE: Final = kinds.DataSourceRef("grafana-postgresql-datasource", "pointsman-database")
PROMETHEUS: Final = kinds.DataSourceRef("prometheus", "pointsman-prometheus")
_MIXED: Final = kinds.DataSourceRef("datasource", "-- Mixed --")
"""Uids as `infra/grafana/provisioning/datasources` gives them."""
_STEP: Final = "1m"
"""Least width of a step: the aggregates are by the minute."""
_SPAN, _HEIGHT = 12, 8
"""Of a panel; a dashboard is 24 wide."""


class Sql(Dataquery):
    """A query to PostgreSQL, which the SDK has no class for."""

    def __init__(self, query: Query, reference: str, form: str) -> None:
        self._body = {
            "refId": reference,
            "datasource": DATABASE.to_json(),
            "format": form,
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": query.sql,
        }

    def to_json(self) -> dict[str, Any]:
        """As the encoder asks for it."""
        return self._body


class _Ready(Builder[Dataquery]):
    """What is built already, for places that take builders."""

    def __init__(self, built: Dataquery) -> None:
        self._built = built

    def build(self) -> Dataquery:
        return self._built


def text(given: Dashboard, agent: str, docs: str) -> str:
    """The dashboard as JSON. ``agent``: whom it is of, empty for none; ``docs``: where the documentation is read, a URL."""
    built = (
        dashboard.Dashboard(given.title)
        .uid(given.uid)
        .description(given.description)
        .tags(["pointsman"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("10s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    if agent:
        built.with_variable(dashboard.ConstantVariable("agent").label("Agent").value(agent))
    if given.changes is not None:
        built.annotation(
            dashboard.AnnotationQuery()
            .name("Flag changes")
            .datasource(DATABASE)
            .enable(True)
            .icon_color("purple")
            .target(_Ready(Sql(given.changes, "Anno", "table")))
        )
    for place, panel in enumerate(given.panels):
        at = models.GridPos(h=_HEIGHT, w=_SPAN, x=place % 2 * _SPAN, y=place // 2 * _HEIGHT)
        built.with_panel(_panel(panel, place + 1, at, f"{docs}/{panel.runbook}"))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _panel(panel: Panel, number: int, at: models.GridPos, runbook: str) -> Any:
    made: Any = _bars(panel) if panel.x != "time" else _series(panel)
    made.id(number).title(panel.title).description(panel.description).grid_pos(at).unit(panel.unit).interval(
        _STEP
    )
    made.datasource(_source(panel)).no_value("no data").max_data_points(panel.points)
    made.links([dashboard.DashboardLink("What it means").url(runbook).target_blank(True)])
    made.legend(common.VizLegendOptions().show_legend(True).placement(kinds.LegendPlacement.BOTTOM))
    if panel.least is not None:
        made.min(panel.least)
    if panel.greatest is not None:
        made.max(panel.greatest)
    if panel.thresholds:
        first, *others = panel.thresholds
        steps = [models.Threshold(None, first.color), *(models.Threshold(t.value, t.color) for t in others)]
        made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    form = "table" if panel.x != "time" else "time_series"
    for i, query in enumerate(panel.queries):
        made.with_target(_target(query, chr(ord("A") + i), form))
    return made


def _series(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().line_width(1).span_nulls(300_000)
    if panel.kind == "bars":
        made.draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(60)
    if panel.kind == "stacked":
        made.fill_opacity(40).stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if len(panel.thresholds) > 1:
        made.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    made.override_by_regexp(
        "/ (low|high)$/",
        [
            models.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [4, 6]}),
            models.DynamicConfigValue("custom.lineWidth", 1),
        ],
    )
    return made


def _bars(panel: Panel) -> barchart.Panel:
    """Columns x, metric, value become one column a metric."""
    return (
        barchart.Panel()
        .x_field(panel.x)
        .with_transformation(
            models.DataTransformerConfig(
                "groupingToMatrix",
                options={"columnField": "metric", "rowField": "x", "valueField": "value"},
            )
        )
        .with_transformation(
            models.DataTransformerConfig("organize", options={"renameByName": {"x\\metric": panel.x}})
        )
    )


def _source(panel: Panel) -> kinds.DataSourceRef:
    database = {bool(query.sql) for query in panel.queries}
    if len(database) > 1:
        return _MIXED
    return DATABASE if database.pop() else PROMETHEUS


def _target(query: Query, reference: str, form: str) -> Any:
    if query.sql:
        return _Ready(Sql(query, reference, form))
    return (
        prometheus.Dataquery()
        .ref_id(reference)
        .datasource(PROMETHEUS)
        .expr(query.promql)
        .legend_format(query.legend)
        .range()
    )
