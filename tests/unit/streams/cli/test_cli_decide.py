"""`decide`: a request or an input, from a file or standard input; what breaks its contract names the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

INPUT = {"repository": "a/b", "subject": "Add option --json", "files": [{"path": "src/cli.py", "added": 30}]}
TICKETS = Path(__file__).parents[4] / "examples" / "agents"


def test_a_bare_input_is_decided_by_rules_and_model(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("decide", "--json", stdin=json.dumps(INPUT))
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["rules"]["decider"].startswith("rules@")
    assert found["model"]["decider"].startswith("ml@")
    for told in (found["rules"], found["model"]):
        assert told["prediction"] in ("docs_needed", "docs_not_needed")
        assert 0.5 <= told["confidence"] <= 1
        assert told["action"] in ("act", "validate", "escalate")
    assert len(found["features"]) > 10


def test_a_whole_request_is_decided_by_the_agent_it_names(
    pointsman: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "a request.json"
    file.write_text(json.dumps({"id": "1", "agent": "ticket-urgency", "input": {"subject": "Site is down"}}))
    ran = pointsman("decide", str(file), "--json", "--agents", str(TICKETS))
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["agent"] == "ticket-urgency"
    assert found["model"] is None


def test_the_example_is_shown_for_people(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("decide", "--example")
    assert ran.code == 0, ran.err
    assert "documentation-keeper" in ran.out
    assert "What moved the answers most" in ran.out


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "value: "),
        ("[1", "value: JSON"),
        ("[]", "input: "),
        ("[" * 40 + "]" * 40, "value: fewer levels"),
        (json.dumps(INPUT | {"files": [{"path": "a", "added": "9"}]}), "input.files[0].added: "),
        (json.dumps({"repository": "a/b", "subject": "x"}), "input.files: required"),
        (json.dumps({"id": "1", "agent": "documentation-keeper"}), "input: required"),
        (json.dumps({"id": "1", "agent": "nosuch", "input": INPUT}), "agent: one of "),
        (json.dumps({"agent": "documentation-keeper", "input": INPUT}), "id: required"),
    ],
)
def test_what_breaks_its_contract_ends_with_2_and_names_the_field(
    pointsman: Callable[..., Any], text: str, field: str
) -> None:
    ran = pointsman("decide", stdin=text)
    assert ran.code == 2
    assert ran.err.startswith(f"pointsman: {field}")
    assert ran.out == ""


def test_an_agent_that_contradicts_the_request_is_refused(pointsman: Callable[..., Any]) -> None:
    request = json.dumps({"id": "1", "agent": "documentation-keeper", "input": INPUT})
    ran = pointsman("decide", "--agent", "ticket-urgency", "--agents", str(TICKETS), stdin=request)
    assert ran.code == 2
    assert "the request asks documentation-keeper" in ran.err


def test_agents_are_listed_and_checked(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("agents", "list", "--json", "--agents", str(TICKETS))
    assert [row["name"] for row in json.loads(ran.out)] == ["documentation-keeper", "ticket-urgency"]
    ran = pointsman("agents", "check", "ticket-urgency", "--json", "--agents", str(TICKETS))
    assert (ran.code, json.loads(ran.out)) == (0, {"ticket-urgency": []})


def test_an_agent_that_breaks_a_promise_fails_the_check_and_the_doctor(
    pointsman: Callable[..., Any], tmp_path: Path
) -> None:
    text = (TICKETS / "ticket-urgency" / "agent.py").read_text()
    broken = tmp_path / "broken" / "agent.py"
    broken.parent.mkdir()
    broken.write_text(
        text.replace('name="ticket-urgency"', 'name="broken"').replace('"urgent" if', '"alarm" if')
    )
    ran = pointsman("agents", "check", "broken", "--agents", str(broken.parent))
    assert ran.code == 1
    assert "'alarm' is not in predictions" in ran.out
    ran = pointsman("doctor", "--json", "--agents", str(broken.parent), "--set", "metrics_port=0")
    assert ran.code == 1
    (wrong,) = [check for check in json.loads(ran.out) if check["state"] == "wrong"]
    assert (wrong["what"], wrong["mend"]) == ("agent broken", "pointsman agents check broken")
