"""Requests for load, generated agents, and the pace between two looks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.load.agents import generate
from benchmarks.load.messages import maker, number_of, request_id
from benchmarks.load.progress import Look, pace
from pointsman.models.registry import load_agents
from pointsman.schemas.request import DecisionRequest
from pointsman.streams.model.loading import load_artifacts
from tests.support.histories import line, write_lines


def test_an_id_says_its_number_and_its_run() -> None:
    assert number_of("0a1b2c3d", request_id("0a1b2c3d", 123_456)) == 123_456
    assert number_of("ffffffff", request_id("0a1b2c3d", 123_456)) is None


def test_requests_keep_their_contract_and_take_agents_and_units_in_turn(tmp_path: Path) -> None:
    commits = write_lines(tmp_path / "commits.jsonl", [line(number) for number in range(5)])
    made = [maker("run00000", commits, ("one", "two"), units=3)(number) for number in range(6)]
    decoded = [msgspec.json.decode(value, type=DecisionRequest) for _, value in made]

    assert [each.id for each in decoded] == [request_id("run00000", n).decode() for n in range(6)]
    assert [each.agent for each in decoded] == ["one", "two"] * 3
    units = ["unit-0", "unit-1", "unit-2", "unit-1", "unit-2", "unit-0"]
    assert [each.unit for each in decoded] == units, "each in each round, and none with one agent alone"
    assert [key.decode() for key, _ in made] == [each.unit for each in decoded]


def test_generated_agents_load_with_a_model_each(tmp_path: Path) -> None:
    names = generate(tmp_path, 3)

    assert set(load_agents([tmp_path])) >= set(names)
    loaded = load_artifacts([tmp_path])
    assert set(loaded.models) >= set(names)
    assert not loaded.broken


def look(at_s: float, decided: int, cpu_s: float) -> Look:
    return Look(at_s, decided, cpu_s, {})


def test_the_pace_is_that_of_the_backlog() -> None:
    seen = [look(0, 0, 1.0), look(1, 100, 1.5), look(2, 300, 2.0), look(4, 900, 2.6), look(9, 1_000, 9.0)]

    found = pace(seen, 1.5, 1_000)

    assert found.rate == 300
    assert found.cpu_us == pytest.approx(1_000)


def test_too_few_looks_have_no_pace() -> None:
    with pytest.raises(ValueError, match="too few"):
        pace([look(0, 0, 0.0), look(1, 1_000, 1.0)], 0.5, 1_000)
