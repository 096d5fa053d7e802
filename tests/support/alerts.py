"""The rule files as the tests read them, and promtool on a set of cases."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.sources import ROOT, text

PROMETHEUS = ROOT / "infra" / "prometheus"
ALERTMANAGER = ROOT / "infra" / "alertmanager"
CASES = ROOT / "tests" / "integration" / "alerts" / "cases"
RULE_FILES = {
    "documentation-keeper.yml": PROMETHEUS / "rules" / "agents" / "documentation-keeper.yml",
    "pipeline.yml": PROMETHEUS / "rules" / "pipeline.yml",
    "objective.yml": PROMETHEUS / "rules" / "objective.yml",
}

CASE_FILES = {
    "documentation-keeper.yml": "documentation-keeper.yml",
    "documentation-keeper-traffic.yml": "documentation-keeper.yml",
    "pipeline.yml": "pipeline.yml",
    "objective.yml": "objective.yml",
    "objective-days.yml": "objective.yml",
}
"""Questions to the rules of which file; apart where they need another interval of evaluation."""


class Ran(NamedTuple):
    """How a program ended."""

    code: int
    out: str


def run(*command: str | Path, cwd: Path | None = None) -> Ran:
    """Run a program to its end."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    return Ran(done.returncode, done.stdout + done.stderr)


def rules(name: str) -> list[dict[str, Any]]:
    """All rules of one file."""
    return [rule for group in yaml.safe_load(text(RULE_FILES[name]))["groups"] for rule in group["rules"]]


def cases(name: str) -> list[dict[str, Any]]:
    """Every question to the rules of a file: an alert at a moment, and what must fire then."""
    loaded = [yaml.safe_load(text(CASES / each)) for each, of in CASE_FILES.items() if of == name]
    return [each for file in loaded for test in file["tests"] for each in test["alert_rule_test"]]


def promtool_tests(promtool: Path, name: str, rule_text: str, folder: Path) -> Ran:
    """`promtool test rules` with a file of cases on a rule file's text.

    promtool compares the annotations of all that fires, word for word. Only the cases of an agent have them; for the
    others they are left out.
    """
    loaded = yaml.safe_load(rule_text)
    for group in loaded["groups"]:
        for rule in group["rules"]:
            if rule["alert"].startswith("Pointsman"):
                del rule["annotations"]
    folder.mkdir(exist_ok=True)
    (folder / "rules.yml").write_text(yaml.safe_dump(loaded, sort_keys=False, allow_unicode=True))
    (folder / "cases.yml").write_text(text(CASES / name))
    return run(promtool, "test", "rules", "cases.yml", cwd=folder)
