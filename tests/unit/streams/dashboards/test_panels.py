"""Dashboards as data and as Grafana's files: complete, stable, and the same as what is committed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.streams.dashboards import grafana, panels
from pointsman.streams.dashboards.panels import Dashboard, slug
from pointsman.streams.settings import load
from tests.support.sources import ROOT

AGENT = "documentation-keeper"
ALL = [panels.of_model(AGENT), panels.of_rollout(AGENT), panels.of_pipeline()]
FOLDER = ROOT / "infra" / "grafana" / "dashboards"
by_uid = pytest.mark.parametrize("dashboard", ALL, ids=[each.uid for each in ALL])


def built(dashboard: Dashboard) -> dict[str, Any]:
    agent = "" if dashboard.uid == panels.of_pipeline().uid else AGENT
    made: dict[str, Any] = json.loads(grafana.text(dashboard, agent, "docs"))
    return made


def test_the_models_dashboard_has_its_name_and_eight_panels_and_no_rows() -> None:
    made = built(ALL[0])
    assert made["uid"] == slug(made["title"]) == "documentation-keeper-ml"
    assert len(made["panels"]) == 8
    assert all(panel["type"] != "row" for panel in made["panels"])


@by_uid
def test_every_panel_says_what_it_shows_in_which_unit_and_where_to_read_on(dashboard: Dashboard) -> None:
    sections = {
        slug(line.lstrip("# "))
        for line in (ROOT / "docs" / "dashboards.md").read_text().splitlines()
        if line.startswith("#")
    }
    for panel in dashboard.panels:
        assert panel.description.endswith("."), panel.title
        assert panel.unit
        assert slug(panel.title) in sections, f"docs/dashboards.md has no section {panel.title}"


@by_uid
def test_the_committed_file_is_what_is_written_for_the_agent(dashboard: Dashboard) -> None:
    agent = "" if dashboard.uid == panels.of_pipeline().uid else AGENT
    path = FOLDER / f"{dashboard.uid}.json"
    assert path.read_text(encoding="utf-8") == grafana.text(dashboard, agent, "docs"), (
        "write it anew: pointsman dashboard grafana --out infra/grafana/dashboards"
    )
    assert {each.name for each in FOLDER.iterdir()} == {f"{each.uid}.json" for each in ALL}


@by_uid
def test_panels_have_places_numbers_sources_and_links_of_their_own(dashboard: Dashboard) -> None:
    made = built(dashboard)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    for panel, of in zip(made["panels"], dashboard.panels, strict=True):
        assert panel["links"][0]["url"] == f"docs/dashboards.md#{slug(of.title)}"
        assert panel["fieldConfig"]["defaults"]["unit"] == of.unit
        assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(of.queries)])
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in {"pointsman-database", "pointsman-prometheus"}
            assert target.get("rawSql") or target.get("expr")


def test_the_data_sources_have_the_uids_that_the_panels_name() -> None:
    text = (ROOT / "infra" / "grafana" / "provisioning" / "datasources" / "pointsman.yml").read_text()
    assert {line.split()[-1] for line in text.splitlines() if line.strip().startswith("uid:")} >= {
        str(grafana.DATABASE.uid),
        str(grafana.PROMETHEUS.uid),
    }


def test_another_agents_dashboards_speak_of_it_alone() -> None:
    text = grafana.text(panels.of_model("invoice-checker"), "invoice-checker", "https://docs.example.com")
    assert AGENT not in text
    assert json.loads(text)["uid"] == "invoice-checker-ml"
    (variable,) = json.loads(text)["templating"]["list"]
    assert (variable["name"], variable["query"]) == ("agent", "invoice-checker")


def test_files_go_where_they_are_asked_for(tmp_path: Path) -> None:
    from pointsman.streams.cli.dashboard import grafana as command

    command(agent="my-agent", docs="docs", out=tmp_path / "new")
    assert sorted(each.name for each in (tmp_path / "new").iterdir()) == [
        "my-agent-ml.json", "my-agent-rollout.json", "pointsman-pipeline.json",
    ]  # fmt: skip


def test_the_variables_of_the_provisioned_files_are_documented_and_are_no_settings() -> None:
    """A worker that shares the environment refuses to start for a setting of ours that it does not know."""
    folder = ROOT / "infra" / "grafana" / "provisioning"
    files = [yaml.safe_load(path.read_text()) for path in sorted(folder.rglob("*.yml"))]
    used = set(re.findall(r"\$__env\{(\w+)\}", json.dumps(files)))
    assert used == set(re.findall(r"`(GRAFANA_\w+)`", (ROOT / "docs" / "dashboards.md").read_text()))
    load(environ=dict.fromkeys(used, "x"))
