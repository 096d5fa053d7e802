"""Requests to rows of features and the rules' answers; one that fails is a dead letter, the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, TypeVar

from pointsman.models.agent import Agent, TryLater
from pointsman.models.decider import Row
from pointsman.models.state import Changes, Seen, check_note
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.outcome import Answer
from pointsman.streams import metrics
from pointsman.streams.decisions.validate import Accepted, Rejected
from pointsman.streams.output import sent_at

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PLAIN: Final = (float, int)
"""What JSON has; NumPy's numbers have sums of their own types."""


@dataclass(slots=True)
class Computed:
    """The requests that an agent's code can deal with, with their rows and the rules' answers; and the others."""

    requests: list[Accepted] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    rules: list[Answer] = field(default_factory=list)
    bad: list[Rejected] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)
    """What is kept of each request until its label comes; of an agent that keeps nothing, empty."""

    def add(self, other: Computed) -> None:
        """What comes after these."""
        self.requests += other.requests
        self.rows += other.rows
        self.rules += other.rules
        self.bad += other.bad
        self.notes += other.notes


def compute(agent: Agent, requests: list[Accepted], state: Changes | None = None) -> Computed:
    """Features, then rules. All go first; only if they fail is the request found that they fail on.

    ``state``: of an agent that keeps one, as the batch has left it so far; it is read here.

    The inputs are given up: hundreds of small objects, freed where they were just read and not once they are cold.
    """
    bad: list[Rejected] = []
    given = requests
    notes: list[Any] = []
    if state is None:
        requests, rows = _each(
            agent,
            "feature_error",
            requests=requests,
            values=[each.input for each in requests],
            step=lambda inputs: _checked_rows(
                list(agent.features(inputs)), len(inputs), len(agent.feature_names)
            ),
            bad=bad,
        )
    else:
        requests, found = _each(
            agent,
            "feature_error",
            requests=requests,
            values=[(each.input, _seen(each, state)) for each in requests],
            step=lambda values: _with_state(agent, values),
            bad=bad,
        )
        rows, notes = [row for row, _ in found], [note for _, note in found]
    for each in given:
        each.input = None
    good, rules = _each(
        agent,
        "rules_error",
        requests=requests,
        values=rows,
        step=lambda some: _checked_answers(agent.rules.decide(some), len(some)),
        bad=bad,
    )
    if len(good) < len(requests):
        kept = {id(each) for each in good}
        rows = [row for each, row in zip(requests, rows, strict=True) if id(each) in kept]
        if notes:
            notes = [note for each, note in zip(requests, notes, strict=True) if id(each) in kept]
    return Computed(good, rows, rules, bad, notes)


def _seen(accepted: Accepted, state: Changes) -> Seen:
    return state.seen(accepted.request.unit, sent_at(accepted.record))


def _with_state(agent: Agent, values: list[tuple[Any, Seen]]) -> list[tuple[Row, Any]]:
    """Rows, and what is kept of each input."""
    assert agent.state is not None, "asked of an agent that keeps state"
    inputs, seen = [each for each, _ in values], [each for _, each in values]
    rows = _checked_rows(list(agent.features(inputs, seen)), len(inputs), len(agent.feature_names))
    notes = agent.state.note(inputs)
    for note in notes:
        check_note(note)
    return list(zip(rows, notes, strict=True))


def _each(
    agent: Agent,
    reason: str,
    *,
    requests: list[Accepted],
    values: list[Any],
    step: Callable[[list[Any]], list[T]],
    bad: list[Rejected],
) -> tuple[list[Accepted], list[T]]:
    if not requests:
        return [], []
    try:
        return requests, step(values)
    except TryLater as error:
        extra = {"agent": agent.name, "requests": len(requests), "why": str(error)}
        logger.warning("an agent asks for a later attempt", extra=extra)
    except Exception:  # an agent's code may raise anything
        extra = {"agent": agent.name, "requests": len(requests), "reason": reason}
        logger.exception("an agent failed on a batch", extra=extra)
    good: list[Accepted] = []
    results: list[T] = []
    for each, value in zip(requests, values, strict=True):
        try:
            results += step([value])
            good.append(each)
        except TryLater as error:
            expected = f"a later attempt, as {agent.name} asked: {error}"
            bad.append(Rejected(each.record, InvalidMessage("try_later", "input", expected), each.request.id))
        except Exception as error:  # noqa: BLE001 - as above
            expected = f"an input that {agent.name} can compute with: {error!r}"
            bad.append(Rejected(each.record, InvalidMessage(reason, "input", expected), each.request.id))
            if reason == "feature_error":
                metrics.FEATURE_ERRORS.labels(agent.name).inc()
    return good, results


def _checked_rows(rows: list[Row], count: int, width: int) -> list[Row]:
    """The rows, if there is one of finite floats for each input."""
    if len(rows) != count:
        msg = f"{len(rows)} rows of features for {count} inputs"
        raise ValueError(msg)
    for i, row in enumerate(rows):
        # One sum says for a whole row that all are numbers, finite, and of a type that has an encoding.
        if len(row) != width or type(total := sum(row)) not in _PLAIN or not isfinite(total):
            rows[i] = _plain(row, width)
    return rows


def _plain(row: Sequence[Any], width: int) -> Row:
    plain = tuple(float(value) for value in row)
    if len(plain) != width or not all(map(isfinite, plain)):
        msg = f"{width} finite features expected, not {plain}"
        raise ValueError(msg)
    return plain


def _checked_answers(answers: Sequence[Answer], count: int) -> list[Answer]:
    """The answers, if there is one for each row, with numbers that JSON can hold."""
    if len(answers) != count:
        msg = f"{len(answers)} answers of the rules for {count} rows"
        raise ValueError(msg)
    for answer in answers:
        if not isfinite(answer.score + answer.confidence):
            msg = f"score {answer.score} or confidence {answer.confidence} is not finite"
            raise ValueError(msg)
    return list(answers)
