"""Grafana's own rules say what Prometheus' say, in the words that Grafana's provisioning takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.streams import alerts
from pointsman.streams.dashboards import grafana_alerts, panels

ROOT = Path(__file__).resolve().parents[4]
FILE = ROOT / "infra" / "grafana" / "provisioning" / "alerting" / "pointsman.json"
AGENT = "documentation-keeper"
LONG = "an-agent-whose-name-is-as-long-as-names-may-become-somewhere"


def rules(*agents: str) -> dict[str, dict[str, Any]]:
    made = json.loads(grafana_alerts.text(agents))
    return {rule["title"]: rule for group in made["groups"] for rule in group["rules"]}


def of_prometheus(*agents: str) -> dict[str, dict[str, Any]]:
    files = alerts.everything(agents, {})
    return {
        rule["alert"]: rule
        for path, text in files.items()
        if "/rules/" in path
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    }


def test_the_committed_file_is_what_is_written_for_the_agent() -> None:
    assert FILE.read_text(encoding="utf-8") == grafana_alerts.text([AGENT]), (
        "write it anew: pointsman alerts grafana --replace --out infra/grafana/provisioning/alerting/pointsman.json"
    )


def test_every_alert_is_there_with_its_expression_and_its_patience() -> None:
    ours, theirs = rules(AGENT), of_prometheus(AGENT)
    assert ours.keys() == theirs.keys()
    assert sum("DocumentationKeeper" in title for title in ours) == 5
    for title, rule in ours.items():
        assert rule["data"][0]["model"]["expr"] == theirs[title]["expr"]
        assert rule["for"] == theirs[title].get("for", "0s")
        assert rule.get("keepFiringFor") == theirs[title].get("keep_firing_for")
        assert {query["refId"] for query in rule["data"]} >= {rule["condition"]}
        assert rule["noDataState"] == "OK", "an expression without a series is an alert that is not there"


def test_templates_reach_grafana_as_they_are() -> None:
    """It replaces `$name` by its environment in labels, not in annotations, and has no `$value` that is a number."""
    templated = 0
    for rule in rules(AGENT).values():
        for label in rule["labels"].values():
            templated += "$$labels" in label
            assert not re.search(r"(?<!\$)\$(?!\$)", label), label
        for annotation in rule["annotations"].values():
            assert "$$" not in annotation
            assert not re.search(r"\$value\b", annotation), annotation
        assert "$" not in json.dumps(rule["data"]), "queries are interpolated too"
    assert templated > 1


def test_names_of_rules_are_such_as_grafana_takes_and_each_its_own() -> None:
    found = [rule["uid"] for rule in rules(AGENT, LONG, f"{LONG}-2").values()]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid) for uid in found)


@pytest.mark.parametrize("agent", [AGENT, "other"])
def test_an_agents_alerts_are_marked_in_their_panels(agent: str) -> None:
    boards = {board.uid: board for board in (panels.of_model(agent), panels.of_rollout(agent))}
    shown = {}
    for title, rule in rules(agent).items():
        if (uid := rule["annotations"].get("__dashboardUid__")) is not None:
            shown[title] = boards[uid].panels[int(rule["annotations"]["__panelId__"]) - 1].title
    assert shown == {
        f"{alerts.camel(agent)}{kind}": title for kind, (_, title) in grafana_alerts.SHOWN_IN.items()
    }
