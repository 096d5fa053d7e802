"""Rows to answers: rules for every request, the model within its deadline, rules in its place where it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pointsman.models.decider import Row
from pointsman.models.ml import BadModelOutput
from pointsman.schemas.outcome import Answer
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.model.client import ModelFailure

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """The model process, as the lane sees it."""

    async def score(self, agent: str, rows: Sequence[Row], deadline_ms: float | None = None) -> Scored:
        """Scores within the deadline, or `ModelFailure`."""

    async def score_shadow(self, agent: str, rows: Sequence[Row]) -> Scored:
        """The same without hurry, after all that is to be served."""


class Scored(Protocol):
    """One score a row."""

    @property
    def values(self) -> Sequence[float]:
        """Probabilities of the positive class."""


@dataclass(slots=True)
class Asked:
    """The model's answers for a batch, None where it has none, and why."""

    answers: list[Answer | None]
    failure: str | None = None
    waited_ms: float | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    runtime: Runtime
    rows: list[Row]
    wanted: list[int]
    asked: Asked


class Questions:
    """A batch's questions to the model. What it answers for a slice is in the `Asked` that `put` gave, once `answered`.

    A call of a model costs half a millisecond whatever its rows. So an agent with a few requests in each slice gets one
    question for all of them; one with many is asked while the next slice computes.
    """

    def __init__(self, scorer: Scorer | None) -> None:
        self._scorer = scorer
        self._open: dict[str, list[_Question]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, runtime: Runtime, rows: list[Row], wanted: list[int]) -> Asked:
        """Rows of one agent's slice, and the places of those that the model is to score."""
        asked = Asked([None] * len(rows))
        if wanted:
            self._open.setdefault(runtime.agent.name, []).append(_Question(runtime, rows, wanted, asked))
        return asked

    def send(self, at_least: int) -> None:
        """Ask for the agents that have so many rows together."""
        for agent, questions in list(self._open.items()):
            if sum(len(each.wanted) for each in questions) >= at_least:
                del self._open[agent]
                self._tasks.append(asyncio.create_task(_ask(self._scorer, questions)))

    async def answered(self) -> None:
        """Ask what is left, and wait for all; at most for the model's deadline."""
        self.send(1)
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        """Nobody waits for them any longer."""
        for task in self._tasks:
            task.cancel()


async def _ask(scorer: Scorer | None, questions: list[_Question]) -> None:
    """One question for slices of one agent; never raises."""
    runtime = questions[0].runtime
    if scorer is None or runtime.card is None:
        _ended(questions, "model_unavailable", None)
        return
    rows = [each.rows[i] for each in questions for i in each.wanted]
    began = time.perf_counter()
    failure = None
    try:
        scored = await scorer.score(runtime.agent.name, rows)
        answers = iter(runtime.ml_answers(scored.values, len(rows)))
        for each in questions:
            for place in each.wanted:
                each.asked.answers[place] = next(answers)
    except ModelFailure as error:
        failure = error.reason
    except BadModelOutput:
        failure = "model_bad_output"
    except Exception:  # whatever the model's side does, the rules answer
        logger.exception(
            "asking the model failed", extra={"agent": runtime.agent.name, "requests": len(rows)}
        )
        failure = "model_error"
    _ended(questions, failure, (time.perf_counter() - began) * 1000)


def _ended(questions: list[_Question], failure: str | None, waited_ms: float | None) -> None:
    for each in questions:
        each.asked.failure, each.asked.waited_ms = failure, waited_ms
