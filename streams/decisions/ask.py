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
from pointsman.streams.decisions.runtime import Runtime, Scored, ml_answers
from pointsman.streams.model.client import ModelFailure

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """The model process, as the lane sees it."""

    async def score_all(
        self, questions: Sequence[tuple[str, Sequence[Row]]]
    ) -> Sequence[Scored | ModelFailure]:
        """For each agent with its rows scores, or why there are none; all within one deadline."""

    async def score_shadow(self, agent: str, rows: Sequence[Row]) -> Scored:
        """Scores without hurry, after all that is to be served. Raises `ModelFailure`."""


@dataclass(slots=True)
class Asked:
    """The model's answers for a batch, None where it has none, and why."""

    answers: list[Answer | None]
    failure: str | None = None
    waited_ms: float | None = None


@dataclass(frozen=True, slots=True)
class _Question:
    """Rows of one agent, those of them that the model is to score, and where its answers go."""

    runtime: Runtime
    rows: list[Row]
    wanted: list[int]
    asked: Asked


class Questions:
    """A batch's questions to the model. The answers are in what `ask` gave, once `answered`."""

    def __init__(self, scorer: Scorer | None) -> None:
        self._scorer = scorer
        self._noted: list[_Question] = []
        self._tasks: list[asyncio.Task[None]] = []

    def ask(self, runtime: Runtime, rows: list[Row], wanted: list[int]) -> Asked:
        """Note a question: rows of one agent, and the places of those that the model is to score."""
        asked = Asked([None] * len(rows))
        if wanted and (self._scorer is None or runtime.card is None):
            asked.failure = "model_unavailable"
        elif wanted:
            self._noted.append(_Question(runtime, rows, wanted, asked))
        return asked

    def send(self) -> None:
        """Those that were noted are under way, all together."""
        if self._noted and self._scorer is not None:
            self._tasks.append(asyncio.create_task(_ask(self._scorer, self._noted)))
            self._noted = []

    async def answered(self) -> None:
        """Wait for all that were sent; at most for the model's deadline."""
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        """Nobody waits for them any longer."""
        for task in self._tasks:
            task.cancel()


async def _ask(scorer: Scorer, questions: list[_Question]) -> None:
    """Never raises."""
    began = time.perf_counter()
    answers: Sequence[list[Answer] | Exception]
    try:
        found = await scorer.score_all(
            [(each.runtime.agent.name, [each.rows[i] for i in each.wanted]) for each in questions]
        )
        answers = ml_answers(
            [(each.runtime, scored, len(each.wanted)) for each, scored in zip(questions, found, strict=True)]
        )
    except Exception as error:  # whatever the model's side does, the rules answer
        agents = sorted({each.runtime.agent.name for each in questions})
        logger.exception("asking the model failed", extra={"agents": agents})
        answers = [error] * len(questions)
    waited_ms = (time.perf_counter() - began) * 1000
    for question, given in zip(questions, answers, strict=True):
        asked = question.asked
        asked.waited_ms = waited_ms
        if isinstance(given, Exception):
            asked.failure = reason_of(given)
            continue
        for place, answer in zip(question.wanted, given, strict=True):
            asked.answers[place] = answer


def reason_of(error: Exception) -> str:
    """Why there is no answer, in one word."""
    if isinstance(error, ModelFailure):
        return error.reason
    return "model_bad_output" if isinstance(error, BadModelOutput) else "model_error"
