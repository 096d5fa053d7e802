"""Every alert has its section and its line, with the level that its rule has; and there is none without an alert."""

from __future__ import annotations

import re

import pytest

from pointsman.streams.alerts import camel
from tests.support.alerts import RULE_FILES, rules
from tests.support.pages import anchors, table
from tests.support.sources import ROOT, text

OPERATIONS, RUNBOOKS = ROOT / "docs" / "operations.md", ROOT / "docs" / "runbooks.md"
AGENT = camel("documentation-keeper")
ALERTS = {rule["alert"].removeprefix(AGENT): rule for file in RULE_FILES for rule in rules(file)}
PARTS = ("**Means.**", "**Look at.**", "**Do.**")


def sections() -> dict[str, str]:
    """Heading of the third level to what stands below it."""
    _, *parts = re.split(r"^### (.*)$|^## .*$", text(RUNBOOKS), flags=re.MULTILINE)
    return {head: body for head, body in zip(parts[::2], parts[1::2], strict=True) if head}


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert set(sections()) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_section_says_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    body = sections()[name]
    assert [body.count(part) for part in PARTS] == [1, 1, 1]
    assert sorted(PARTS, key=body.index) == list(PARTS)


@pytest.mark.parametrize("name", ALERTS)
def test_the_link_of_an_alert_leads_to_its_section(name: str) -> None:
    page, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    assert ROOT / page == RUNBOOKS
    assert anchor in anchors(RUNBOOKS)
    assert anchor == name.lower()


def test_the_table_has_every_alert_with_its_level() -> None:
    rows = [*table(OPERATIONS, "alert of an agent"), *table(OPERATIONS, "alert")]
    levels = {re.sub(r"\[(\w+)\]\(.*", r"\1", name): level for name, level, _ in rows}
    assert len(levels) == len(rows)
    assert set(levels) == set(ALERTS)
    for name, level in levels.items():
        wanted = set(re.findall(r"info|warning|critical", ALERTS[name]["labels"]["severity"]))
        assert set(re.findall(r"info|warning|critical", level)) == wanted, name
