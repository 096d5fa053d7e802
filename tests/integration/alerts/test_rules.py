"""promtool on the rules: they are valid, each fires where it must and is silent where it must, and broken ones fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.alerts import CASE_FILES, CASES, PROMETHEUS, RULE_FILES, cases, promtool_tests, rules, run
from tests.support.sources import text

Program = Callable[[str], Path]
TEXTS = "documentation-keeper.yml"


def failing(program: Program, name: str, rule_text: str, folder: Path) -> set[str]:
    """The alerts of a rule file that some case finds other than it must be."""
    found = set()
    for each in [each for each, of in CASE_FILES.items() if of == name]:
        ran = promtool_tests(program("promtool"), each, rule_text, folder / each)
        told = set(re.findall(r"alertname: ?(\w+), time", ran.out))
        assert (ran.code == 0) == (not told), ran.out
        found |= told
    return found


def test_configuration_and_rules_are_valid(program: Program) -> None:
    checked = run(program("promtool"), "check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.code == 0, checked.out
    assert f"SUCCESS: {len(RULE_FILES)} rule files found" in checked.out
    for file in RULE_FILES.values():
        checked = run(program("promtool"), "check", "rules", file)
        assert checked.code == 0, checked.out
        assert f"SUCCESS: {text(file).count('alert:')} rules found" in checked.out


@pytest.mark.parametrize("name", CASE_FILES)
def test_alerts_fire_where_they_must_and_nowhere_else(program: Program, tmp_path: Path, name: str) -> None:
    ran = promtool_tests(program("promtool"), name, text(RULE_FILES[CASE_FILES[name]]), tmp_path)
    assert ran.code == 0, ran.out
    assert "SUCCESS" in ran.out


@pytest.mark.parametrize("name", RULE_FILES)
def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not(name: str) -> None:
    asked = cases(name)
    every = {rule["alert"] for rule in rules(name)}
    assert {each["alertname"] for each in asked if each["exp_alerts"]} == every
    assert {each["alertname"] for each in asked if not each["exp_alerts"]} == every
    assert {path.name for path in CASES.glob("*.yml")} == set(CASE_FILES)


Round = dict[str, tuple[str, str]]
KEEPER: list[Round] = [
    {
        "SuccessLow": ("< 0.75", "< 0.73"),
        "LatencyHigh": ("> 0.1\n", "> 0.151\n"),
        "FeatureErrors": ("increase", "max_over_time"),
        "SatisfactionLow": ("< 3\n", "< 2.9\n"),
        "NoTrafficOrModelDown": ("max by (agent) (pointsman_model", "min by (agent) (pointsman_model"),
    },
    {
        "SuccessLow": ("< 0.75", "<= 0.75"),
        "LatencyHigh": ("> 0.1\n", "> 0.09\n"),
        "FeatureErrors": ('agent="documentation-keeper"', 'agent="another"'),
        "SatisfactionLow": ("< 3\n", "<= 3\n"),
        "NoTrafficOrModelDown": ("offset 15m)\n", "offset 1m)\n"),
    },
    {
        "SuccessLow": (">= 50", ">= 51"),
        "LatencyHigh": ("0.95,", "0.99,"),
        "FeatureErrors": ("> 0\n", "> 3\n"),
        "SatisfactionLow": (">= 20", ">= 21"),
        "NoTrafficOrModelDown": ("absent_over_time", "present_over_time"),
    },
    {
        "SuccessLow": (">= 50", ">= 49"),
        "LatencyHigh": (">= 20", ">= 9"),
        "FeatureErrors": ("[5m]", "[10m]"),
        "SatisfactionLow": (">= 20", ">= 19"),
        "NoTrafficOrModelDown": ("[15m])) == 0", "[5m])) == 0"),
    },
    {
        "SuccessLow": ("        keep_firing_for: 5m\n", ""),
        "LatencyHigh": ("severity: warning", "severity: info"),
        "FeatureErrors": ("severity: warning", "severity: critical"),
        "SatisfactionLow": ('eq $labels.arm "candidate"', 'ne $labels.arm "candidate"'),
        "NoTrafficOrModelDown": ('eq $labels.cause "traffic" }}critical', 'ne $labels.cause "traffic" }}critical'),
    },
    {
        "SuccessLow": ('eq $labels.arm "candidate"', 'ne $labels.arm "candidate"'),
    },
]  # fmt: skip
OBJECTIVE: list[Round] = [
    {"Fast": ("> 14.4 *", "> 21 *"), "Medium": ("> 6 *", "> 11 *"), "Slow": ("> 0.001", "> 0.0021")},
    {"Fast": ("> 14.4 *", "> 9 *"), "Medium": ("> 6 *", "> 1 *"), "Slow": ("> 0.001", "> 0.0004")},
    {"Fast": ("[5m]", "[1h]"), "Medium": ("[30m]", "[6h]"), "Slow": ("[6h]", "[3d]")},
    {"Fast": (">= 5", ">= 2"), "Medium": ('le="1.0"', 'le="60.0"'), "Slow": ('topic=~".*decision-(requests|retries-.*)"', 'topic=~".*"')},
    {"Fast": ("feature_error|", ""), "Medium": ("feature_error|", "feature_error|unknown_agent|"), "Slow": ('lane="decisions", ', "")},
    {"Fast": ("pointsman_duplicates_total", "pointsman_nothing_total"), "Slow": ("rules_error|", "not_json|")},
    {"Fast": ("pointsman_lost_offsets_total", "pointsman_nothing_total")},
]  # fmt: skip
PIPELINE: list[Round] = [
    {
        "LaneMissing": ('lane="sink"} > 0', 'lane="sink"}'),
        "WorkerDown": ('up{job="pointsman"}', 'up{job=~".+"}'),
        "ModelMetricsMissing": ("== 0", "== 1"),
        "LaneUnhealthy": ("== 0", "== 1"),
        "LaneHalted": ("== 1", "== 0"),
        "ControlPlaneDown": ("== 0", "== 1"),
        "PartitionRestarts": ("> 5\n", "> 2\n"),
        "MemoryHigh": ("> 1073741824", "> 999999999"),
        "LaneBehind": ("== 1", "== 0"),
        "LagLong": ("> 300", "> 401"),
        "Retries": ("> 0\n", "> 100\n"),
        "LedgerDifferences": ("!= 0", "> 2"),
        "LostOffsets": ("> 0\n", "> 9\n"),
        "UnreadableBatches": ("[15m]", "[30m]"),
        "ForeignMessages": ("[15m]", "[30m]"),
        "DeadLetters": ("(lane, reason)", "(lane)"),
        "DeadLettersMany": ("> 0.01", "> 0.021"),
        "DatabaseDown": ('{lane="sink"} > 0', '{lane="sink"}'),
        "FlagsStale": ('lane="decisions"', 'lane="sink"'),
        "FlagVersionsDiffer": ("> 0\n", "> 1\n"),
        "ModelAway": ("== 0", "== 1"),
        "ModelBreakerOpen": ("> 0.5", "> 0.8"),
        "ModelBroken": ("== 1", "== 0"),
        "ModelRestarts": ("> 2\n", "> 9\n"),
        "FallbacksMany": ("> 0.05", "> 0.11"),
        "ShadowsMissed": ("> 0.1\n", "> 0.3\n"),
        "Drift": ("== 1", "== 0"),
        "FeedbackUnsigned": ("> 0\n", "> 9\n"),
    },
    {
        "PartitionRestarts": ("> 5\n", "> 50\n"),
        "MemoryHigh": ('{job=~"pointsman.*"}', ""),
        "LagLong": ("> 300", "> 199"),
        "DeadLettersMany": ("> 0.01", "> 0.004"),
        "DatabaseDown": ("== 0", "== 1"),
        "ModelBreakerOpen": ("> 0.5", "> 0.3"),
        "ModelRestarts": ("> 2\n", "> 0.5\n"),
        "FallbacksMany": ("> 0.05", "> 0.039"),
        "ShadowsMissed": ("> 0.1\n", "> 0.04\n"),
        "Drift": ("for: 15m", "for: 5m"),
        "FeedbackUnsigned": ("[15m]", "[30m]"),
        "LostOffsets": ("[15m]", "[30m]"),
    },
    {
        "DeadLettersMany": (">= 10", ">= 2"),
        "FallbacksMany": (">= 5", ">= 0.5"),
        "ShadowsMissed": (">= 20", ">= 2"),
        "Drift": ("count by (agent) (max by (agent, feature) (", "count by (agent, feature) (max by (agent, feature) ("),
    },
    {"FallbacksMany": ('{arm="candidate"}', "")},
]  # fmt: skip
BROKEN = [
    *((TEXTS, {f"DocumentationKeeper{alert}": change for alert, change in each.items()}) for each in KEEPER),
    *(("objective.yml", {f"PointsmanErrorBudget{alert}": change for alert, change in each.items()}) for each in OBJECTIVE),
    *(("pipeline.yml", {f"Pointsman{alert}": change for alert, change in each.items()}) for each in PIPELINE),
]  # fmt: skip


def broken(rule_text: str, changes: Round) -> str:
    """The rules with a change in each of some alerts, in nothing else."""
    head, *stanzas = re.split(r"(?=^ +- alert: )", rule_text, flags=re.MULTILINE)
    left = dict(changes)
    for number, stanza in enumerate(stanzas):
        name = re.search(r"alert: (\w+)", stanza)[1]  # type: ignore[index]
        if name in left:
            old, new = left.pop(name)
            assert old in stanza, f"{old!r} is not in {name} any more"
            stanzas[number] = stanza.replace(old, new)
    assert not left
    return head + "".join(stanzas)


@pytest.mark.parametrize(("name", "changes"), BROKEN)
def test_an_alert_that_asks_for_something_else_fails_and_no_other(
    program: Program, tmp_path: Path, name: str, changes: Round
) -> None:
    """One change of a threshold, a window or a label in each of several alerts, which cost one run together."""
    assert failing(program, name, broken(text(RULE_FILES[name]), changes), tmp_path) == set(changes)


@pytest.mark.parametrize("name", ["pipeline.yml", TEXTS])
def test_an_alert_that_does_not_wait_fails(program: Program, tmp_path: Path, name: str) -> None:
    waiting = {rule["alert"] for rule in rules(name) if "for" in rule}
    hasty = re.sub(r"^ +for: .*\n", "", text(RULE_FILES[name]), flags=re.MULTILINE)
    assert failing(program, name, hasty, tmp_path) == waiting
