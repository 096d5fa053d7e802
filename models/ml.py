"""Model scores to answers, and `MlDecider`: a trained model as a decider, in process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from math import log
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.models.confidence import judge_all
from pointsman.schemas.errors import PointsmanError
from pointsman.schemas.outcome import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from pointsman.models.artifact import Card, Scorer
    from pointsman.models.decider import Row

_FLOOR = 1e-6
"""Scores have 6 decimals, so that none can be told from 0 below this; keeps log odds finite."""


class BadModelOutput(PointsmanError):
    """A model answered with something that cannot be a list of probabilities."""

    retriable = True


class Scoring(NamedTuple):
    """What one model answered: one score a row."""

    card: Card
    predictions: Sequence[str]
    """The positive one last."""
    scores: npt.NDArray[np.float64] | Sequence[float]
    rows: int | None = None
    """How many there must be; None: any number."""


def answers_from_scores(
    card: Card,
    predictions: Sequence[str],
    scores: npt.NDArray[np.float64] | Sequence[float],
    count: int | None = None,
) -> list[Answer]:
    """One answer a score, in order; the arguments are those of `Scoring`.

    Raises `BadModelOutput` where a score is NaN, infinite or outside of [0, 1], and where there
    are not ``count`` of them.
    """
    [answers] = answers_of_all([Scoring(card, predictions, scores, count)])
    if isinstance(answers, BadModelOutput):
        raise answers
    return answers


def answers_of_all(scorings: Sequence[Scoring]) -> list[list[Answer] | BadModelOutput]:
    """The same for several models, each with its answers or its error.

    Computed together: some twenty calls of NumPy take for thirty scores as long as for a thousand.
    """
    found = [_checked(each) for each in scorings]
    good = [
        (scoring, scores)
        for scoring, scores in zip(scorings, found, strict=True)
        if not isinstance(scores, BadModelOutput)
    ]
    if not good:
        return [each for each in found if isinstance(each, BadModelOutput)]
    scores = np.round(np.concatenate([scores for _, scores in good]), 6)
    counts = [len(scores) for _, scores in good]
    thresholds = np.repeat([scoring.card.threshold for scoring, _ in good], counts)
    positive, confidence = judge_all(scores, thresholds)
    judged = zip(positive.tolist(), scores.tolist(), confidence.tolist(), strict=True)
    return [
        each if isinstance(each, BadModelOutput) else _answers(scoring, islice(judged, len(each)))
        for scoring, each in zip(scorings, found, strict=True)
    ]


def _answers(scoring: Scoring, judged: Iterable[tuple[bool, float, float]]) -> list[Answer]:
    card, predictions = scoring.card, scoring.predictions
    decider, reasons = _texts(card.version, card.threshold)
    names = (predictions[0], predictions[-1])
    return [
        Answer(decider=decider, prediction=names[yes], score=score, confidence=sure, reason=reasons[yes])
        for yes, score, sure in judged
    ]


@lru_cache(1_000)
def _texts(version: str, threshold: float) -> tuple[str, tuple[str, str]]:
    """A card's name, and the reasons of its answers."""
    return f"ml@{version}", (
        f"model score below its threshold {threshold:g}",
        f"model score at or above its threshold {threshold:g}",
    )


def _checked(scoring: Scoring) -> npt.NDArray[np.float64] | BadModelOutput:
    count = scoring.rows
    try:
        array = np.asarray(scoring.scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        return BadModelOutput(f"the model's scores are not numbers: {error}")
    if array.ndim != 1 or (count is not None and len(array) != count):
        shape = "n" if count is None else count
        return BadModelOutput(f"the model answered with shape {array.shape}, expected ({shape},)")
    # Where any score is NaN, so are the least and the greatest, and neither compares.
    if len(array) and not (array.min() >= 0 and array.max() <= 1):
        place = int(np.argmin((array >= 0) & (array <= 1)))
        return BadModelOutput(f"the model's score {place} is {array[place]}, expected a probability")
    return array


class MlDecider:
    """A scorer and its card as a decider."""

    name = "ml"

    def __init__(self, card: Card, scorer: Scorer, predictions: Sequence[str]) -> None:
        self.card = card
        self._scorer = scorer
        self._predictions = tuple(predictions)

    @classmethod
    def load(cls, folder: Path, predictions: Sequence[str]) -> MlDecider:
        """From an artifact's folder. Raises `ModelArtifactError`."""
        from pointsman.models.artifact import load_card, load_scorer  # noqa: PLC0415

        return cls(load_card(folder), load_scorer(folder), predictions)

    @property
    def version(self) -> str:
        """The card's."""
        return self.card.version

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer a row, in order. Raises `BadModelOutput`."""
        if not rows:
            return []
        scores = self._scorer.score(np.array(rows, dtype=np.float64))
        return answers_from_scores(self.card, self._predictions, scores, len(rows))

    def explain(self, row: Row) -> Mapping[str, float]:
        """What each feature adds to the log odds of the positive class against the training median.

        By occlusion: the row is scored again with one feature at a time put back to its median. For a
        linear model that is the exact contribution; for others it leaves out what features do together.
        """
        grid = np.tile(np.array(row, dtype=np.float64), (len(row) + 1, 1))
        for i, usual in enumerate(self.card.medians):
            grid[i + 1, i] = usual
        odds = [_log_odds(p) for p in self._scorer.probabilities(grid).tolist()]
        effects = {
            name: round(odds[0] - without, 6)
            for name, without in zip(self.card.feature_names, odds[1:], strict=True)
        }
        return dict(sorted(effects.items(), key=lambda item: -abs(item[1])))


def _log_odds(p: float) -> float:
    p = min(max(p, _FLOOR), 1 - _FLOOR)
    return log(p / (1 - p))
