"""An agent with keyed state for tests: of each unit and kind, how many were labelled, and how many of them bad.

The file is an agent's own (`agents` names its folder), and what tests compute with.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from pointsman.models.agent import Agent
from pointsman.models.decider import Row
from pointsman.models.state import KeyedState, Learned, Seen, Told, Values
from pointsman.schemas.outcome import Answer


class Input(Struct, frozen=True, kw_only=True):
    """Something of a kind."""

    kind: str


def features(inputs: Sequence[Input], seen: Sequence[Seen]) -> list[Row]:
    """How many of the kind and of the unit were labelled, how many of them bad, and how long ago the last was."""
    rows: list[Row] = []
    for each, (at, values) in zip(inputs, seen, strict=True):
        kind, unit = values.get(each.kind, NONE), values.get("*", NONE)
        age = at - float(kind[0]) if kind is not NONE else -1.0
        rows.append((*_numbers(kind), *_numbers(unit), round(age, 3)))
    return rows


NONE = (0.0, 0, 0)


def _numbers(value: Sequence[Any]) -> tuple[float, float]:
    return float(value[1]), float(value[2])


def note(inputs: Sequence[Input]) -> list[Any]:
    """The kind, and no label yet."""
    return [[each.kind, ""] for each in inputs]


def learn(told: Told, content: Any, values: Values) -> Learned:
    """Count the label; one that was counted before is taken back."""
    kind, before = content
    changed = {}
    for key in (kind, "*"):
        _, n, bad = values.get(key, NONE)
        changed[key] = (n + (not before), bad + (told.label == "bad") - (before == "bad"))
    return Learned(changed, [kind, told.label])


class Rules:
    """Bad where more than half were."""

    name = "rules"
    version = "1"

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer a row."""
        return [self._decide(row) for row in rows]

    @staticmethod
    def _decide(row: Row) -> Answer:
        score = round((row[1] + 1) / (row[0] + 2), 6)
        said = "bad" if score > 0.5 else "good"
        return Answer(
            decider="rules@1", prediction=said, score=score, confidence=max(score, 1 - score), reason="r"
        )

    def explain(self, row: Row) -> Mapping[str, float]:
        """The share of the bad."""
        return {"kind_bad": row[1]}


AGENT = Agent(
    name="rememberer",
    input_type=Input,
    feature_names=("kind_labels", "kind_bad", "unit_labels", "unit_bad", "age_s"),
    feature_version="1",
    features=features,
    predictions=("good", "bad"),
    rules=Rules(),
    state=KeyedState(version="1", note=note, learn=learn),
    examples=({"kind": "a"},),
)
