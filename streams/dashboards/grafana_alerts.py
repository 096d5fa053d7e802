"""The alerts of Prometheus' files as rules of Grafana's own, for its provisioning (the extra ``grafana``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from pointsman.streams import alerts
from pointsman.streams.dashboards import panels
from pointsman.streams.dashboards.grafana import PROMETHEUS

FOLDER: Final = "Pointsman"
"""That of the dashboards."""
EVERY: Final = "10s"
_SPAN_S: Final = 600
"""What Grafana asks a query for; the rules' own ranges are in their expressions."""
_UID_MAX: Final = 40
_LEAST: Final = -1e308
"""An expression of these rules has a series while it is true, whatever its value: any value at all is an alert."""
SHOWN_IN: Final = {
    "SuccessLow": (panels.of_rollout, "Success of the last hour and day"),
    "LatencyHigh": (panels.of_model, "Latency"),
    "FeatureErrors": (panels.of_model, "Fallbacks and errors"),
    "SatisfactionLow": (panels.of_model, "Satisfaction"),
    "NoTrafficOrModelDown": (panels.of_model, "Decisions by source"),
}
"""The panel of an agent's dashboards that an alert belongs to: Grafana marks it there."""


def text(agents: Sequence[str], runbooks: str = alerts.RUNBOOKS) -> str:
    """A file for `provisioning/alerting`: the groups of every rule file that these agents need."""
    files = alerts.everything(agents, {}, runbooks)
    groups = [
        _group(group, agents)
        for path, content in files.items()
        if path.startswith("prometheus/rules/")
        for group in yaml.safe_load(content)["groups"]
    ]
    return json.dumps({"apiVersion": 1, "groups": groups}, indent=2, ensure_ascii=False) + "\n"


def _group(group: Mapping[str, Any], agents: Sequence[str]) -> dict[str, Any]:
    return {
        "orgId": 1,
        "name": group["name"],
        "folder": FOLDER,
        "interval": EVERY,
        "rules": [_rule(rule, agents) for rule in group["rules"]],
    }


def _rule(rule: Mapping[str, Any], agents: Sequence[str]) -> dict[str, Any]:
    made = {
        "uid": uid(rule["alert"]),
        "title": rule["alert"],
        "condition": "B",
        "data": [_query(rule["expr"]), _any_value()],
        "for": rule.get("for", "0s"),
        "noDataState": "OK",
        "execErrState": "Error",
        # Grafana puts its environment into labels, and into annotations not: `$$` is a `$`.
        "labels": {name: value.replace("$", "$$") for name, value in rule["labels"].items()},
        "annotations": {
            name: value.replace("$value", "$values.A.Value") for name, value in rule["annotations"].items()
        }
        | dict(_panel(rule["alert"], agents)),
    }
    if "keep_firing_for" in rule:
        made["keepFiringFor"] = rule["keep_firing_for"]
    return made


def _panel(alert: str, agents: Sequence[str]) -> Iterator[tuple[str, str]]:
    for agent in agents:
        board, title = SHOWN_IN.get(alert.removeprefix(alerts.camel(agent)), (None, ""))
        if board is not None:
            dashboard = board(agent)
            number = 1 + [panel.title for panel in dashboard.panels].index(title)
            yield "__dashboardUid__", dashboard.uid
            yield "__panelId__", str(number)


def _query(expr: str) -> dict[str, Any]:
    return {
        "refId": "A",
        "relativeTimeRange": {"from": _SPAN_S, "to": 0},
        "datasourceUid": PROMETHEUS.uid,
        "model": {"refId": "A", "expr": expr, "instant": True, "range": False},
    }


def _any_value() -> dict[str, Any]:
    condition = {"type": "query", "evaluator": {"type": "gt", "params": [_LEAST]}}
    return {
        "refId": "B",
        "datasourceUid": "__expr__",
        "model": {"refId": "B", "type": "threshold", "expression": "A", "conditions": [condition]},
    }


def uid(alert: str) -> str:
    """The alert's name, which is stable; one that is too long for Grafana ends in a hash of the whole."""
    if len(alert) <= _UID_MAX:
        return alert
    return f"{alert[: _UID_MAX - 9]}-{hashlib.sha256(alert.encode()).hexdigest()[:8]}"
