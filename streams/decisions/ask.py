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
from pointsman.streams.decisions.runtime import Runtime, Scored
from pointsman.streams.model.client import ModelFailure

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """The model process, as the lane sees it."""

    async def score(self, agent: str, rows: Sequence[Row], deadline_ms: float | None = None) -> Scored:
        """Scores within the deadline, or `ModelFailure`."""

    async def score_shadow(self, agent: str, rows: Sequence[Row]) -> Scored:
        """The same without hurry, after all that is to be served."""


@dataclass(slots=True)
class Asked:
    """The model's answers for a batch, None where it has none, and why."""

    answers: list[Answer | None]
    failure: str | None = None
    waited_ms: float | None = None


class Questions:
    """A batch's questions to the model, all under way at once. The answers are in what `ask` gave, once `answered`."""

    def __init__(self, scorer: Scorer | None) -> None:
        self._scorer = scorer
        self._tasks: list[asyncio.Task[None]] = []

    def ask(self, runtime: Runtime, rows: list[Row], wanted: list[int]) -> Asked:
        """Rows of one agent, and the places of those that the model is to score."""
        asked = Asked([None] * len(rows))
        if wanted:
            self._tasks.append(asyncio.create_task(_ask(self._scorer, runtime, rows, wanted, asked)))
        return asked

    async def answered(self) -> None:
        """Wait for all; at most for the model's deadline."""
        await asyncio.gather(*self._tasks)

    def cancel(self) -> None:
        """Nobody waits for them any longer."""
        for task in self._tasks:
            task.cancel()


async def _ask(
    scorer: Scorer | None, runtime: Runtime, rows: list[Row], wanted: list[int], asked: Asked
) -> None:
    """One question; never raises."""
    if scorer is None or runtime.card is None:
        asked.failure = "model_unavailable"
        return
    began = time.perf_counter()
    try:
        scored = await scorer.score(runtime.agent.name, [rows[i] for i in wanted])
        answers = runtime.ml_answers(scored, len(wanted))
        for place, answer in zip(wanted, answers, strict=True):
            asked.answers[place] = answer
    except (ModelFailure, BadModelOutput) as failure:
        asked.failure = reason_of(failure)
    except Exception as error:  # whatever the model's side does, the rules answer
        extra = {"agent": runtime.agent.name, "requests": len(wanted)}
        logger.exception("asking the model failed", extra=extra)
        asked.failure = reason_of(error)
    asked.waited_ms = (time.perf_counter() - began) * 1000


def reason_of(error: Exception) -> str:
    """Why there is no answer, in one word."""
    if isinstance(error, ModelFailure):
        return error.reason
    return "model_bad_output" if isinstance(error, BadModelOutput) else "model_error"
