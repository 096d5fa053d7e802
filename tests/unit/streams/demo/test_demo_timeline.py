"""A history as events: asked in the order of time, truth never before its question, nothing invented."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.agents.documentation_keeper.history import read_commits
from pointsman.models.agents.documentation_keeper.request import CodeChange
from pointsman.streams.demo.timeline import Timeline, build
from tests.support.histories import START, learnable, line, write_lines


def timeline(tmp_path: Path, lines: list[dict[str, Any]], limit: int = 0) -> Timeline:
    return build(read_commits(write_lines(tmp_path / "commits.jsonl", lines)), "run", limit)


def at(hours: float) -> str:
    return f"{START + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"


def test_each_question_has_one_label_that_comes_later(tmp_path: Path) -> None:
    made = timeline(tmp_path, learnable(repositories=2, commits=50))
    asked: set[str] = set()
    labelled: Counter[str] = Counter()
    for event in made.events:
        if event.kind == "ask":
            asked.add(event.id)
            msgspec.json.decode(event.body, type=CodeChange)
        else:
            assert event.id in asked
            labelled[event.id] += event.kind == "label"
    assert made.asked == len(asked) == 100
    assert set(labelled.values()) == {1}
    assert [event.at for event in made.events] == sorted(event.at for event in made.events)
    assert made.repositories == 2


def test_truth_is_known_when_documentation_is_there_and_not_before(tmp_path: Path) -> None:
    land = "00000000bb"
    lines = [
        line(1, land=land, sha="00000000aa", y={"dom": 1, "land": ["docs"]}),
        line(2, sha="00000000cc"),
        line(30, docs=True, land=land, sha=land),
    ]
    made = timeline(tmp_path, lines)
    kinds = [(event.kind, event.id.removeprefix("run-"), event.value) for event in made.events]
    assert kinds.index(("ask", "00000000cc", "")) < kinds.index(("label", "00000000aa", "docs_needed"))
    (label,) = [event for event in made.events if (event.kind, event.id) == ("label", "run-00000000aa")]
    assert label.at == START + timedelta(hours=30)


def test_that_nothing_is_documented_is_known_when_the_pull_request_landed(tmp_path: Path) -> None:
    land = "00000000bb"
    lines = [
        line(1, land="00000000dd", sha="00000000aa", y={"dom": 1, "same": ["docs"], "land": ["docs"]}),
        line(2, land=land, sha="00000000cc"),
        line(20, land="00000000dd", sha="00000000dd", y={"dom": 0, "land": ["docs"]}),
        line(30, land=land, sha=land),
    ]
    labels = {e.id.removeprefix("run-"): e.at for e in timeline(tmp_path, lines).events if e.kind == "label"}
    hours = {"00000000aa": 1, "00000000cc": 30, "00000000bb": 30}
    assert labels == {id_: START + timedelta(hours=hour) for id_, hour in hours.items()}


def test_commits_outside_the_domain_are_not_asked_about(tmp_path: Path) -> None:
    outside = line(2)
    outside["y"]["dom"] = 0
    made = timeline(tmp_path, [line(1), outside, line(3)])
    assert made.asked == 2
    assert made.commits == 3


def test_signals_come_from_later_commits(tmp_path: Path) -> None:
    lines = [
        line(1, subject="Add a core"),
        line(2, subject='Revert "Add a core"', author="00000000"),
        line(200, files=[{"p": "src/other.py", "a": 1, "r": 0}]),
    ]
    made = timeline(tmp_path, lines)
    found = {(event.id, event.value) for event in made.events if event.kind == "signal"}
    assert ("run-0000000001", "reverted") in found
    assert not any(id_ == "run-0000000002" and value == "reverted" for id_, value in found)


def test_a_limit_keeps_the_newest_and_what_belongs_to_them(tmp_path: Path) -> None:
    made = timeline(tmp_path, learnable(repositories=1, commits=40), limit=7)
    asked = [event.id for event in made.events if event.kind == "ask"]
    assert asked == [f"run-{number:010x}" for number in range(33, 40)]
    assert {event.id for event in made.events} == set(asked)


def test_two_commits_of_the_same_short_sha_are_two_decisions(tmp_path: Path) -> None:
    made = timeline(tmp_path, [line(1), line(1, repo="example/two")])
    assert {event.id for event in made.events if event.kind == "ask"} == {
        "run-0000000001",
        "run-0000000001-2",
    }


@given(hours=st.lists(st.integers(-500, 500), min_size=1, max_size=30))
def test_clocks_that_run_backwards_never_put_truth_before_its_question(
    hours: list[int], tmp_path_factory: Any
) -> None:
    lines = [line(i, committed_at=at(hour), authored_at=at(hour)) for i, hour in enumerate(hours)]
    made = timeline(tmp_path_factory.mktemp("history"), lines)
    asked: set[str] = set()
    for event in made.events:
        if event.kind == "ask":
            asked.add(event.id)
        assert event.id in asked
    assert len(asked) == len(hours)
