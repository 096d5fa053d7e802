"""Every agent conforms, and agents that break a rule are caught."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pointsman.models.agent import Agent
from pointsman.models.agents.documentation_keeper import AGENT as KEEPER
from pointsman.models.conformance import check
from pointsman.models.decider import Row
from pointsman.models.registry import load_agents
from pointsman.schemas.outcome import Answer


class Input(msgspec.Struct):
    a: float
    b: list[float] = []


class Rules:
    name = "rules"
    version = "1"

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        return [self.answer(row) for row in rows]

    def answer(self, row: Row) -> Answer:
        yes = row[0] > 1
        return Answer(
            decider="rules@1", prediction="yes" if yes else "no", score=0.75 if yes else 0.25, confidence=0.75
        )

    def explain(self, row: Row) -> Mapping[str, float]:
        return {"a": row[0]}


def features(inputs: Sequence[Input]) -> list[Row]:
    return [(float(one.a), float(len(one.b))) for one in inputs]


GOOD = Agent(
    name="example",
    input_type=Input,
    feature_names=("a", "n"),
    feature_version="1",
    features=features,
    predictions=("no", "yes"),
    rules=Rules(),
    examples=({"a": 1}, {"a": 2.5, "b": [1, 2]}, {"a": -3}),
)


@pytest.mark.parametrize("agent", load_agents().values(), ids=lambda agent: agent.name)
def test_every_agent_of_the_package_conforms(agent: Agent) -> None:
    assert check(agent) == []


def test_the_good_example_conforms() -> None:
    assert check(GOOD) == []


def with_features(function: Any) -> dict[str, Any]:
    return {"features": function}


def with_answer(**changes: Any) -> dict[str, Any]:
    class Bad(Rules):
        def answer(self, row: Row) -> Answer:
            return msgspec.structs.replace(super().answer(row), **changes)

    return {"rules": Bad()}


def with_decide(function: Any) -> dict[str, Any]:
    class Bad(Rules):
        def decide(self, rows: Sequence[Row]) -> list[Answer]:
            return function(super().decide, rows)

    return {"rules": Bad()}


def with_explain(function: Any) -> dict[str, Any]:
    class Bad(Rules):
        def explain(self, row: Row) -> Mapping[str, float]:
            return function(row)

    return {"rules": Bad()}


_count = itertools.count()


def mutating(inputs: Sequence[Input]) -> list[Row]:
    rows = features(inputs)
    for one in inputs:
        one.b.clear()
    return rows


def raising(*_: Any) -> Any:
    raise RuntimeError("no")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"name": "Bad Name"}, "name 'Bad Name'"),
    "no features": ({"feature_names": ()}, "feature_names is empty"),
    "feature twice": ({"feature_names": ("a", "a")}, "feature_names has a name twice"),
    "one prediction": ({"predictions": ("yes",)}, "at least two"),
    "no examples": ({"examples": ()}, "examples is empty"),
    "example of another type": ({"examples": ({"a": "x"},)}, "examples[0] does not decode"),
    "random features": (
        with_features(lambda inputs: [(float(next(_count)), 0.0) for _ in inputs]),
        "features is not deterministic",
    ),
    "features of the batch": (
        with_features(lambda inputs: [(float(one.a), float(len(inputs))) for one in inputs]),
        "features depends on the rest of the batch",
    ),
    "features of the order": (
        with_features(lambda inputs: [(float(inputs[0].a), 0.0) for _ in inputs]),
        "features depends on the order of the batch",
    ),
    "nan": (
        with_features(lambda inputs: [(float("nan"), 0.0) for _ in inputs]),
        "is nan, expected a finite int or float",
    ),
    "infinite": (with_features(lambda inputs: [(float("inf"), 0.0) for _ in inputs]), "is inf, expected"),
    "booleans": (
        with_features(lambda inputs: [(True, 0.0) for _ in inputs]),
        "is True, expected a finite int or float",
    ),
    "too few": (with_features(lambda inputs: [(1.0,) for _ in inputs]), "expected a tuple of 2 numbers"),
    "missing rows": (
        with_features(lambda inputs: features(inputs)[1:]),
        "features must return a list of 3 rows",
    ),
    "mutates": (with_features(mutating), "features changes its inputs"),
    "raises": (with_features(raising), "features raises RuntimeError: no"),
    "unknown prediction": (with_answer(prediction="maybe"), "prediction 'maybe' is not in predictions"),
    "low confidence": (with_answer(confidence=0.4), "confidence is 0.4"),
    "high confidence": (with_answer(confidence=1.01), "confidence is 1.01"),
    "score nan": (with_answer(score=float("nan")), "score is nan"),
    "score decimals": (with_answer(score=0.12345678), "more than 6 decimals"),
    "other decider": (with_answer(decider="rules@2"), "decider is 'rules@2'"),
    "too few answers": (
        with_decide(lambda decide, rows: decide(rows)[1:]),
        "rules must return a list of 3 answers",
    ),
    "no answers": (with_decide(lambda decide, rows: None), "rules must return a list of 3 answers"),
    "answers of the order": (
        with_decide(lambda decide, rows: [decide(rows)[0]] * len(rows)),
        "rules depends on the rest of the batch",
    ),
    "fails on nothing": (
        with_decide(lambda decide, rows: decide(rows) if rows else rows[0]),
        "rules on an empty batch raises",
    ),
    "rules raise": (with_decide(raising), "rules raises RuntimeError: no"),
    "rules change rows": (
        with_decide(lambda decide, rows: decide(rows[:]) if not rows else _popped(decide, rows)),
        "",
    ),
    "unknown feature explained": (with_explain(lambda row: {"z": 1.0}), "names unknown features: z"),
    "explained by nan": (with_explain(lambda row: {"a": float("nan")}), "not finite"),
    "explain raises": (with_explain(raising), "rules.explain raises RuntimeError"),
    "no model there": ({"model": Path("nowhere")}, "model: nowhere/card.json: cannot be read"),
    "another agent's model": ({"model": KEEPER.model}, "model: is of agent 'documentation-keeper'"),
}


def _popped(decide: Any, rows: list[Row]) -> list[Answer]:
    answers = decide(rows)
    rows.append(rows[0])
    return answers


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named(case: str) -> None:
    changes, expected = BROKEN[case]
    found = check(dataclasses.replace(GOOD, **changes))
    assert any((expected or "rules changes its rows") in problem for problem in found), found


def test_a_model_of_other_features_is_named() -> None:
    names = (*KEEPER.feature_names[:-1], "other")
    found = check(dataclasses.replace(KEEPER, feature_names=names, feature_version="other"))
    assert "model: was trained on other feature_names" in found
    assert "model: was trained on feature_version '4'" in found


def test_an_input_that_does_not_survive_json_is_named() -> None:
    class Lossy(msgspec.Struct, omit_defaults=True):
        a: float
        b: list[float] = []

        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return False

    found = check(dataclasses.replace(GOOD, input_type=Lossy))
    assert any("round trip" in problem for problem in found)
