"""Agents that remember: one that keeps the rules, and how each broken rule is named."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from pointsman.models.agent import Agent
from pointsman.models.conformance import check
from pointsman.models.decider import Row
from pointsman.models.state import (
    CHANGED_VALUES_MAX,
    NOTE_BYTES_MAX,
    KeyedState,
    Learned,
    Seen,
    Told,
    Values,
)
from pointsman.schemas.outcome import Answer


class Input(msgspec.Struct):
    a: float
    b: list[float] = []


class Rules:
    name = "rules"
    version = "1"

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        return [
            Answer(decider="rules@1", prediction="yes" if row[0] > 1 else "no", score=0.5, confidence=0.5)
            for row in rows
        ]

    def explain(self, row: Row) -> Mapping[str, float]:
        return {"a": row[0]}


def features(inputs: Sequence[Input], seen: Sequence[Seen]) -> list[Row]:
    return [
        (one.a, float(values["yes"][1]) if "yes" in values else 0.0)
        for one, (_, values) in zip(inputs, seen, strict=True)
    ]


def note(inputs: Sequence[Input]) -> list[Any]:
    return [[one.a] for one in inputs]


def learn(told: Told, kept: Any, values: Values) -> Learned:
    count = int(values["yes"][1]) if "yes" in values else 0
    return Learned({"yes": (count + (told.label == "yes"),)}, kept)


GOOD = Agent(
    name="example",
    input_type=Input,
    feature_names=("a", "yes"),
    feature_version="1",
    features=features,
    predictions=("no", "yes"),
    rules=Rules(),
    examples=({"a": 1}, {"a": 2.5, "b": [1, 2]}, {"a": -3}),
    state=KeyedState(version="1", note=note, learn=learn),
)
_count = itertools.count()


def test_the_good_example_conforms() -> None:
    assert check(GOOD) == []


def test_rows_without_a_state_are_those_of_an_unknown_unit() -> None:
    assert GOOD.rows([Input(a=2.0)]) == [(2.0, 0.0)]
    assert GOOD.rows([Input(a=2.0)], [Seen(1.0, {"yes": (0.0, 3)})]) == [(2.0, 3.0)]
    stateless = dataclasses.replace(
        GOOD, state=None, features=lambda inputs: [(one.a, 0.0) for one in inputs]
    )
    assert stateless.rows([Input(a=2.0)], [Seen(1.0, {"yes": (0.0, 3)})]) == [(2.0, 0.0)]


def clearing(inputs: Sequence[Input]) -> list[Any]:
    notes = note(inputs)
    for one in inputs:
        one.b.clear()
    return notes


def mutating(told: Told, kept: Any, values: Values) -> Learned:
    kept.append(0)
    return Learned({}, kept)


def raising(*_: Any) -> Any:
    raise RuntimeError("no")


def learning(values: Any, kept: Any = None) -> dict[str, Any]:
    return {"learn": lambda told, note, known: Learned(values, kept)}


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no version": ({"version": ""}, "state.version is empty"),
    "note raises": ({"note": raising}, "note raises RuntimeError: no"),
    "too few notes": ({"note": lambda inputs: note(inputs)[1:]}, "note must return a list of 3"),
    "note changes inputs": ({"note": clearing}, "note changes its inputs"),
    "note of the batch": (
        {"note": lambda inputs: [len(inputs) for _ in inputs]},
        "note depends on the rest of the batch",
    ),
    "random note": ({"note": lambda inputs: [next(_count) for _ in inputs]}, "note is not deterministic"),
    "note is no JSON": ({"note": lambda inputs: [object() for _ in inputs]}, "cannot be written as JSON"),
    "note is a tuple": ({"note": lambda inputs: [(1,) for _ in inputs]}, "not the same after a round trip"),
    "note is large": (
        {"note": lambda inputs: ["x" * NOTE_BYTES_MAX for _ in inputs]},
        "bytes, 16384 are allowed",
    ),
    "learn raises": ({"learn": raising}, "with label 'no' raises RuntimeError: no"),
    "learn changes the note": ({"learn": mutating}, "changes what it is given"),
    "random learning": (
        {"learn": lambda told, note, known: Learned({"k": (next(_count),)}, None)},
        "is not deterministic",
    ),
    "learn gives something else": ({"learn": lambda *_: {}}, "is a dict, expected Learned"),
    "many values": (
        learning({str(i): (1,) for i in range(CHANGED_VALUES_MAX + 1)}),
        "changes 101 values, 100 are allowed",
    ),
    "empty key": (learning({"": (1,)}), "must be a text of 1 to 1000 letters"),
    "key is a number": (learning({1: (1,)}), "key 1 must be a text"),
    "nan": (learning({"k": (float("nan"),)}), "must hold finite numbers and texts only"),
    "nested": (learning({"k": ([1],)}), "must hold finite numbers and texts only"),
    "learned note is no JSON": (learning({}, object()), "note cannot be written as JSON"),
    "features cannot use what was learned": (learning({"yes": ()}), "raises IndexError"),
    "features are bad afterwards": (learning({"yes": ("nan",)}), "is nan, expected a finite"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named(case: str) -> None:
    changes, expected = BROKEN[case]
    assert GOOD.state is not None
    found = check(dataclasses.replace(GOOD, state=dataclasses.replace(GOOD.state, **changes)))
    assert any(expected in problem for problem in found), found
