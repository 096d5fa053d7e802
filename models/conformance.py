"""What every agent must keep. `check` runs an agent on its own examples and names each promise it breaks."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from pointsman.models.agent import Agent
from pointsman.models.decider import Decider, Row, decider_id
from pointsman.models.ml import MlDecider
from pointsman.models.state import KeyedState, Learned, Seen, Told, check_learned, check_note
from pointsman.schemas.errors import PointsmanError
from pointsman.schemas.outcome import Answer

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
_OTHER_LABEL: Final = "a label that is no prediction"
T = TypeVar("T")


class _Raised:
    """In place of a result: the agent's code raised, which was noted."""


def check(agent: Agent) -> list[str]:
    """Problems in plain words; empty if the agent conforms. Never raises for what the agent does."""
    problems = _declaration(agent)
    inputs = _decoded(agent, problems)
    if not inputs:
        return [*problems, *_model(agent, [])]
    rows = _features(agent, inputs, problems)
    if rows is None:
        return problems
    if agent.state is not None:
        problems += _state(agent, agent.state, inputs)
    problems += _decider(agent, agent.rules, rows, "rules")
    return problems + _model(agent, rows)


def _declaration(agent: Agent) -> list[str]:
    names, predictions = agent.feature_names, agent.predictions
    facts = [
        (_NAME.match(agent.name), f"name {agent.name!r} must be lower-case letters, digits and hyphens"),
        (names, "feature_names is empty"),
        (len(set(names)) == len(names), "feature_names has a name twice"),
        (agent.feature_version, "feature_version is empty"),
        (len(predictions) >= 2, "predictions must name at least two"),
        (len(set(predictions)) == len(predictions), "predictions has a name twice"),
        (agent.examples, "examples is empty: nothing can be checked without"),
    ]
    return [problem for holds, problem in facts if not holds]


def _decoded(agent: Agent, problems: list[str]) -> list[Any]:
    """The examples as typed inputs, through JSON as a producer would send them."""
    inputs = []
    for i, example in enumerate(agent.examples):
        place = f"examples[{i}]"
        try:
            decoded = msgspec.json.decode(msgspec.json.encode(example), type=agent.input_type)
            again = msgspec.json.decode(msgspec.json.encode(decoded), type=agent.input_type)
        except (msgspec.MsgspecError, TypeError) as error:
            problems.append(f"{place} does not decode as {agent.input_type.__name__}: {error}")
            continue
        if again != decoded:
            problems.append(f"{place} is not the same after a round trip through JSON")
        inputs.append(decoded)
    return inputs


def _features(agent: Agent, inputs: list[Any], problems: list[str]) -> list[Row] | None:
    """The feature rows, or None where they are too broken to go on with."""
    before = [msgspec.json.encode(one) for one in inputs]
    rows = _tried(lambda: agent.rows(copy.deepcopy(inputs)), "features", problems)
    if isinstance(rows, _Raised):
        return None
    shape = _shape(agent, inputs, rows)
    if shape:
        problems += shape
        return None
    _tried(lambda: agent.rows(inputs), "features", problems)
    if [msgspec.json.encode(one) for one in inputs] != before:
        problems.append("features changes its inputs")
    fresh = [msgspec.json.decode(text, type=agent.input_type) for text in before]
    problems += _batching(lambda some: agent.rows([fresh[i] for i in some]), rows, "features")
    return rows


def _shape(agent: Agent, inputs: list[Any], rows: Any) -> list[str]:
    if not isinstance(rows, list) or len(rows) != len(inputs):
        return [f"features must return a list of {len(inputs)} rows for {len(inputs)} inputs"]
    problems = []
    for i, row in enumerate(rows):
        if not isinstance(row, tuple) or len(row) != len(agent.feature_names):
            problems.append(
                f"features of examples[{i}]: expected a tuple of {len(agent.feature_names)} numbers"
            )
            continue
        for name, value in zip(agent.feature_names, row, strict=True):
            # A bool would stand as `true` in the outcome; a NumPy number has no encoding at all.
            if type(value) not in (int, float) or not math.isfinite(value):
                problems.append(
                    f"feature {name} of examples[{i}] is {value!r}, expected a finite int or float"
                )
    return problems


def _state(agent: Agent, state: KeyedState, inputs: list[Any]) -> list[str]:
    """Notes of the examples, and what labels make of them."""
    problems: list[str] = [] if state.version else ["state.version is empty"]
    before = [msgspec.json.encode(one) for one in inputs]
    notes = _tried(lambda: state.note(inputs), "note", problems)
    if isinstance(notes, _Raised):
        return problems
    if not isinstance(notes, list) or len(notes) != len(inputs):
        return [*problems, f"note must return a list of {len(inputs)} for {len(inputs)} inputs"]
    if [msgspec.json.encode(one) for one in inputs] != before:
        problems.append("note changes its inputs")
    kept = [f"note of examples[{i}] {problem}" for i, note in enumerate(notes) for problem in _note(note)]
    if kept:
        return problems + kept
    problems += _batching(lambda some: state.note([inputs[i] for i in some]), notes, "note")
    for i, note in enumerate(notes):
        if note is not None:
            problems += _learning(agent, state, inputs[i], note, f"examples[{i}]")
    return problems


def _note(note: Any) -> list[str]:
    try:
        check_note(note)
    except ValueError as error:
        return [str(error).removeprefix("note ")]
    again = msgspec.json.decode(msgspec.json.encode(note))
    return [] if again == note else ["is not the same after a round trip through JSON"]


def _learning(agent: Agent, state: KeyedState, one: Any, note: Any, place: str) -> list[str]:
    """Labels one after another, as a decision may be labelled again; features must come out of what was learned."""
    problems: list[str] = []
    values: dict[str, tuple[Any, ...]] = {}
    at = 1.0
    for label in (*agent.predictions, agent.predictions[0], agent.predictions[0], _OTHER_LABEL):
        at += 1
        told = Told("decision", label, at)
        what = f"learn of {place} with label {label!r}"
        before = msgspec.json.encode((note, values))
        learned = _tried(partial(state.learn, told, note, values), what, problems)
        again = _tried(partial(state.learn, told, note, values), what, problems)
        if isinstance(learned, _Raised) or isinstance(again, _Raised):
            return problems
        if msgspec.json.encode((note, values)) != before:
            return [*problems, f"{what} changes what it is given"]
        if learned != again:
            return [*problems, f"{what} is not deterministic"]
        found = _learned(learned)
        if found:
            return [*problems, *(f"{what}: {problem}" for problem in found)]
        for key, value in learned.values.items():
            values.pop(key, None)
            if value is not None:
                values[key] = (at, *value)
        rows = _tried(partial(agent.rows, [one], [Seen(at, values)]), f"features after {what}", problems)
        if not isinstance(rows, _Raised):
            problems += [f"after {what}: {problem}" for problem in _shape(agent, [one], rows)]
        if learned.note is None:
            return problems
        note = learned.note
    return problems


def _learned(learned: Any) -> list[str]:
    if not isinstance(learned, Learned):
        return [f"is a {type(learned).__name__}, expected Learned"]
    try:
        check_learned(learned)
    except ValueError as error:
        return [str(error)]
    return [f"its note {problem}" for problem in _note(learned.note)]


def _batching(answer: Callable[[Sequence[int]], list[T]], expected: list[T], what: str) -> list[str]:
    """Whether the same comes out again, alone, in another order and beside repetitions."""
    problems: list[str] = []
    everything = list(range(len(expected)))
    ways = {
        "is not deterministic": [everything],
        "depends on the rest of the batch": [[i] for i in everything],
        "depends on the order of the batch": [everything[::-1], everything[1:] + everything[:1]],
        "depends on what else is in the batch": [everything + everything],
    }
    for problem, batches in ways.items():
        for batch in batches:
            found = _tried(lambda batch=batch: answer(batch), what, problems)  # type: ignore[misc]
            if not isinstance(found, _Raised) and found != [expected[i] for i in batch]:
                problems.append(f"{what} {problem}")
                break
    return problems


def _decider(agent: Agent, decider: Decider, rows: list[Row], what: str) -> list[str]:
    problems: list[str] = []
    kept = list(rows)
    answers = _tried(lambda: decider.decide(rows), what, problems)
    if rows != kept:
        problems.append(f"{what} changes its rows")
        rows[:] = kept
    if isinstance(answers, _Raised):
        return problems
    if not isinstance(answers, list) or len(answers) != len(rows):
        return [*problems, f"{what} must return a list of {len(rows)} answers for {len(rows)} rows"]
    for i, answer in enumerate(answers):
        problems += [f"{what} on examples[{i}]: {problem}" for problem in _answer(agent, decider, answer)]
    problems += _batching(lambda some: decider.decide([rows[i] for i in some]), answers, what)
    empty = _tried(lambda: decider.decide([]), f"{what} on an empty batch", problems)
    if not isinstance(empty, _Raised) and empty != []:
        problems.append(f"{what} must answer an empty batch with an empty list")
    return problems + _explanations(agent, decider, rows, what)


def _answer(agent: Agent, decider: Decider, answer: Answer) -> list[str]:
    if not isinstance(answer, Answer):
        return [f"is a {type(answer).__name__}, expected Answer"]
    facts = [
        (
            answer.decider == decider_id(decider),
            f"decider is {answer.decider!r}, expected {decider_id(decider)!r}",
        ),
        (answer.prediction in agent.predictions, f"prediction {answer.prediction!r} is not in predictions"),
        (0 <= answer.score <= 1, f"score is {answer.score}, expected 0 to 1"),
        (0.5 <= answer.confidence <= 1, f"confidence is {answer.confidence}, expected 0.5 to 1"),
        (answer.score == round(answer.score, 6), f"score {answer.score} has more than 6 decimals"),
    ]
    problems = [problem for holds, problem in facts if not holds]
    if not problems and msgspec.json.decode(msgspec.json.encode(answer), type=Answer) != answer:
        problems.append("is not the same after a round trip through JSON")
    return problems


def _explanations(agent: Agent, decider: Decider, rows: list[Row], what: str) -> list[str]:
    problems: list[str] = []
    for i, row in enumerate(rows):
        found = _tried(lambda row=row: dict(decider.explain(row)), f"{what}.explain", problems)  # type: ignore[misc]
        if isinstance(found, _Raised):
            continue
        unknown = sorted(set(found) - set(agent.feature_names))
        if unknown:
            problems.append(f"{what}.explain of examples[{i}] names unknown features: {', '.join(unknown)}")
        if not all(math.isfinite(value) for value in found.values()):
            problems.append(f"{what}.explain of examples[{i}] has numbers that are not finite")
    return problems


def _model(agent: Agent, rows: list[Row]) -> list[str]:
    """The artifact, where there is one: it loads, belongs to these features, and answers like any decider."""
    if agent.model is None:
        return []
    try:
        decider = MlDecider.load(agent.model, agent.predictions)
    except PointsmanError as error:
        return [f"model: {error}"]
    card = decider.card
    facts = [
        (card.agent == agent.name, f"is of agent {card.agent!r}"),
        (card.feature_names == agent.feature_names, "was trained on other feature_names"),
        (
            card.feature_version == agent.feature_version,
            f"was trained on feature_version {card.feature_version!r}",
        ),
        (card.predictions == agent.predictions, f"predicts {card.predictions}"),
    ]
    problems = [f"model: {problem}" for holds, problem in facts if not holds]
    if problems or not rows:
        return problems
    return _decider(agent, decider, rows, "model")


def _tried(action: Callable[[], T], what: str, problems: list[str]) -> T | _Raised:
    """What the agent's code gives; whatever it raises is a finding, reported once."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001
        problem = f"{what} raises {type(error).__name__}: {error}"
        if problem not in problems:
            problems.append(problem)
        return _Raised()
