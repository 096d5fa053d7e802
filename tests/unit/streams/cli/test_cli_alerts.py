"""The files for Prometheus and Alertmanager: what ships is what the command writes, and names what there is."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from pointsman.schemas.dead_letter import REASONS
from pointsman.streams import metrics
from pointsman.streams.alerts import Limits, agent_rules, camel, everything, filled
from pointsman.streams.cli import alerts as commands
from pointsman.streams.decisions.latency import EDGES_S
from pointsman.streams.drifts import Drifts
from pointsman.streams.model.observe import ServerMetrics
from pointsman.streams.standing import Standings
from tests.support.alerts import RULE_FILES, rules
from tests.support.sources import ROOT, files, name, text

AGENT = "documentation-keeper"
OF_THE_AGENT = {"SuccessLow", "LatencyHigh", "FeatureErrors", "SatisfactionLow", "NoTrafficOrModelDown"}
TEMPLATES = "infra/prometheus/templates/"
OF_PROMETHEUS = {"up": {"job", "instance"}, "process_resident_memory_bytes": {"job", "instance"}}
ALL_RULES = [(file, rule) for file in RULE_FILES for rule in rules(file)]


def known() -> dict[str, set[str]]:
    """Every metric of ours, as Prometheus shows it, with its labels."""
    found = {"pointsman_decision_seconds": {"agent", "arm"}, **OF_PROMETHEUS}
    families = [*Standings().collect(), *Drifts().collect()]
    found |= {each.name: set(each._labelnames) for each in families}
    for holder in (vars(metrics), vars(ServerMetrics())):
        for each in holder.values():
            if isinstance(each, MetricWrapperBase):
                total = "_total" if each._type == "counter" else ""
                found[f"{each._name}{total}"] = set(each._labelnames)
    return found


# -- what ships --------------------------------------------------------------------------------------------


def test_what_ships_is_what_the_command_writes() -> None:
    made = everything([AGENT], {})
    assert {path: text(ROOT / "infra" / path) for path in made} == made
    shipped = {
        name(path) for path in files() if name(path).startswith(("infra/prometheus/", "infra/alertmanager/"))
    }
    assert {f"infra/{path}" for path in made} == {path for path in shipped if not path.startswith(TEMPLATES)}


def test_exactly_five_alerts_have_the_agents_name_and_no_rule_records() -> None:
    names = [rule["alert"] for _, rule in ALL_RULES]  # a recording rule has no such key
    assert len(names) == len(set(names))
    assert {each for each in names if "DocumentationKeeper" in each} == {
        f"DocumentationKeeper{each}" for each in OF_THE_AGENT
    }
    assert all(each.startswith(("DocumentationKeeper", "Pointsman")) for each in names)


def test_any_agent_has_the_same_five() -> None:
    text_of_another = agent_rules("ticket-urgency")
    loaded = yaml.safe_load(text_of_another)
    assert {rule["alert"] for group in loaded["groups"] for rule in group["rules"]} == {
        f"TicketUrgency{each}" for each in OF_THE_AGENT
    }
    assert "ocumentation" not in text_of_another
    assert "@" not in text_of_another
    assert camel("a-b2-c") == "AB2C"


@pytest.mark.parametrize(
    ("file", "rule"), ALL_RULES, ids=lambda each: each["alert"] if isinstance(each, dict) else ""
)
def test_every_alert_says_how_bad_it_is_what_it_means_and_what_to_do(file: str, rule: dict[str, Any]) -> None:
    levels = set(re.findall(r"\b(info|warning|critical)\b", rule["labels"]["severity"]))
    assert levels
    templated = "{{" in rule["labels"]["severity"]
    assert len(levels) == (2 if templated else 1)
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert re.search(r"\d|\$value", annotations["description"]), "no figure"
    section = rule["alert"].removeprefix(camel(AGENT))
    assert annotations["runbook_url"] == f"docs/runbooks.md#{section.lower()}"


@pytest.mark.parametrize(
    ("file", "rule"), ALL_RULES, ids=lambda each: each["alert"] if isinstance(each, dict) else ""
)
def test_every_alert_asks_for_metrics_and_labels_that_there_are(file: str, rule: dict[str, Any]) -> None:
    there = known()
    expression = rule["expr"]
    named = set(re.findall(r"\b(?:pointsman|process)_\w+|\bup\b(?=\{)", expression))
    assert named
    for each in named:
        assert re.sub(r"_(bucket|count)$", "", each) in there, each
    for metric, selector in re.findall(r"\b(\w+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)=~?\"", selector))
        base = re.sub(r"_(bucket|count)$", "", metric)
        assert labels <= there[base] | {"job", "instance"} | ({"le"} if metric.endswith("_bucket") else set())


def test_the_edges_that_alerts_look_at_are_edges_of_the_histogram() -> None:
    assert Limits().p95_ms / 1000 in EDGES_S
    late = set(re.findall(r'le="([^"]+)"', text(RULE_FILES["objective.yml"])))
    assert {float(each) for each in late} <= set(EDGES_S)
    assert late <= {str(each) for each in EDGES_S}


def test_reasons_that_count_against_the_objective_are_reasons_of_dead_letters() -> None:
    (counted,) = set(re.findall(r'reason=~"([^"]+)"', text(RULE_FILES["objective.yml"])))
    ours = set(counted.split("|"))
    assert ours <= set(REASONS)
    assert {"feature_error", "rules_error"} <= ours
    assert not ours & {"not_json", "wrong_type", "missing_field", "bad_key", "id_reused", "unknown_agent"}


def test_every_metric_of_an_alert_is_exported_in_this_form() -> None:
    """The names above come from the objects; this is how they look when they are scraped."""
    exported = {family.name for family in REGISTRY.collect()}
    assert {"pointsman_decision_seconds", "pointsman_dead_letters", "pointsman_model_available"} <= exported


# -- options -----------------------------------------------------------------------------------------------


def test_a_line_takes_its_option_and_no_other() -> None:
    page = 'a:\n  - to: "x"  # --mail-to\n    by: "y"  # --mail\n    file: "/old/place/name"  # --secrets\n  c: 1\n'
    assert filled(page, {}) == page
    assert filled(page, {"mail-to": 'quo"te', "secrets": "/new/"}) == (
        'a:\n  - to: "quo\\"te"  # --mail-to\n    by: "y"  # --mail\n    file: "/new/name"  # --secrets\n  c: 1\n'
    )


def test_limits_of_the_command_are_those_of_the_files() -> None:
    options = inspect.signature(commands.rules).parameters
    asked = {each: option.default for each, option in options.items() if each in asdict(Limits())}
    assert asked == {each: value for each, value in asdict(Limits()).items() if each in asked}
    assert set(asdict(Limits())) - set(asked) == {"decisions", "quiet"}
    assert f"{options['quiet_minutes'].default}m" == Limits().quiet


# -- the command -------------------------------------------------------------------------------------------


def test_rules_prints_the_file_that_ships(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("alerts", "rules", AGENT)
    assert (ran.code, ran.out) == (0, text(RULE_FILES[f"{AGENT}.yml"]))


def test_rules_takes_other_limits(pointsman: Callable[..., Any]) -> None:
    words = (
        "--success",
        "0.8",
        "--p95-ms",
        "250",
        "--labels",
        "7",
        "--satisfaction",
        "3.5",
        "--signals",
        "9",
    )
    ran = pointsman("alerts", "rules", AGENT, *words, "--quiet-minutes", "60")
    assert ran.code == 0
    expressions = "".join(
        rule["expr"] for group in yaml.safe_load(ran.out)["groups"] for rule in group["rules"]
    )
    for wanted in ("< 0.8\n", ">= 7\n", "> 0.25\n", "< 3.5\n", ">= 9\n", "[60m]", "offset 60m"):
        assert wanted in expressions
    assert "250 ms" in ran.out


def test_rules_of_an_agent_that_nobody_knows_are_refused(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("alerts", "rules", "documentation-keper")
    assert ran.code == 2
    assert "documentation-keeper" in ran.err


def test_write_makes_rules_for_every_agent_and_puts_the_options_in(
    pointsman: Callable[..., Any], tmp_path: Path
) -> None:
    words = ("--workers", "w1:9310,w2:9310", "--models", "w1:9311", "--alertmanager", "am:9093")
    mail = (
        "--smtp",
        "mail.example.org:587",
        "--smtp-user",
        "me",
        "--mail-from",
        "a@b.c",
        "--mail-to",
        "d@e.f",
    )
    others = ("--slack-channel", "#c", "--webhook", "http://h/a", "--secrets", str(tmp_path / "s"))
    ran = pointsman(
        *("alerts", "write", str(tmp_path / "made"), "--agents", str(ROOT / "examples" / "agents"), "--json"),
        *(*words, *mail, *others, "--runbooks", "https://example.org/runbooks.md"),
    )
    assert ran.code == 0, ran.err
    made = {
        Path(each).relative_to(tmp_path / "made").as_posix(): Path(each)
        for each in json.loads(ran.out)["written"]
    }
    assert {
        "prometheus/rules/agents/documentation-keeper.yml",
        "prometheus/rules/agents/ticket-urgency.yml",
    } <= set(made)
    scraped = yaml.safe_load(made["prometheus/prometheus.yml"].read_text())
    assert [each["static_configs"][0]["targets"] for each in scraped["scrape_configs"]] == [
        ["w1:9310", "w2:9310"],
        ["w1:9311"],
    ]
    assert scraped["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["am:9093"]
    routed = yaml.safe_load(made["alertmanager/alertmanager.yml"].read_text())
    assert routed["global"] == {
        "smtp_smarthost": "mail.example.org:587",
        "smtp_require_tls": True,
        "smtp_from": "a@b.c",
        "smtp_auth_username": "me",
        "smtp_auth_password_file": f"{tmp_path}/s/smtp-password",
        "slack_api_url_file": f"{tmp_path}/s/slack-url",
    }
    (critical,) = [each for each in routed["receivers"] if each["name"] == "critical"]
    assert critical["email_configs"][0]["to"] == "d@e.f"
    assert critical["slack_configs"][0]["channel"] == "#c"
    assert critical["webhook_configs"][0]["url"] == "http://h/a"
    for path, file in made.items():
        if path.startswith("prometheus/rules/"):
            urls = re.findall(r"runbook_url: (\S+)", file.read_text())
            assert urls
            assert all(url.startswith("https://example.org/runbooks.md#") for url in urls)


@pytest.mark.parametrize(
    ("relay", "tls"), [("localhost:25", False), ("127.0.0.1:2525", False), ("127.0.0.1.example.org:25", True)]
)
def test_mail_goes_without_tls_to_this_machine_alone(
    pointsman: Callable[..., Any], tmp_path: Path, relay: str, tls: bool
) -> None:
    assert pointsman("alerts", "write", str(tmp_path), "--smtp", relay).code == 0
    routed = yaml.safe_load((tmp_path / "alertmanager" / "alertmanager.yml").read_text())
    assert routed["global"]["smtp_require_tls"] is tls


def test_what_somebody_changed_is_not_written_over(pointsman: Callable[..., Any], tmp_path: Path) -> None:
    assert pointsman("alerts", "write", str(tmp_path)).code == 0
    assert pointsman("alerts", "write", str(tmp_path)).code == 0  # the same again is no loss
    changed = tmp_path / "alertmanager" / "alertmanager.yml"
    changed.write_text("mine")
    gone = tmp_path / "prometheus" / "prometheus.yml"
    gone.unlink()
    ran = pointsman("alerts", "write", str(tmp_path))
    assert ran.code == 2
    assert str(changed) in ran.err
    assert changed.read_text() == "mine"
    assert not gone.exists(), "it is written in part"
    assert pointsman("alerts", "write", str(tmp_path), "--replace").code == 0
    assert changed.read_text() == text(ROOT / "infra" / "alertmanager" / "alertmanager.yml")


def test_a_folder_that_cannot_be_made_is_said(pointsman: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = pointsman("alerts", "write", str(tmp_path / "file"))
    assert ran.code == 2
    assert "cannot be written" in ran.err


def test_grafanas_rules_are_written_and_not_over_what_somebody_changed(
    pointsman: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "alerting" / "pointsman.json"
    assert pointsman("alerts", "grafana", "--out", str(file)).code == 0
    assert file.read_text() == text(ROOT / "infra/grafana/provisioning/alerting/pointsman.json")
    file.write_text("mine")
    ran = pointsman("alerts", "grafana", "--out", str(file))
    assert (ran.code, file.read_text()) == (2, "mine")
    assert str(file) in ran.err
    elsewhere = ("--runbooks", "https://example.org/runbooks.md")
    assert pointsman("alerts", "grafana", "--out", str(file), "--replace", *elsewhere).code == 0
    assert "https://example.org/runbooks.md#successlow" in file.read_text()
