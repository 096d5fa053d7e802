"""Model scores to answers, and `MlDecider`: a trained model as a decider, in process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import TYPE_CHECKING

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


def answers_from_scores(
    card: Card,
    predictions: Sequence[str],
    scores: npt.NDArray[np.float64] | Sequence[float],
    count: int | None = None,
) -> list[Answer]:
    """One answer a score, in order; ``predictions`` has the positive one last.

    Raises `BadModelOutput` where a score is NaN, infinite or outside of [0, 1], and where there
    are not ``count`` of them (None: any number).
    """
    checked = _checked(scores, count)
    positive, confidence = judge_all(checked, card.threshold)
    decider = f"ml@{card.version}"
    names = (predictions[0], predictions[-1])
    reasons = (
        f"model score below its threshold {card.threshold:g}",
        f"model score at or above its threshold {card.threshold:g}",
    )
    return [
        Answer(decider=decider, prediction=names[yes], score=score, confidence=sure, reason=reasons[yes])
        for yes, score, sure in zip(positive.tolist(), checked.tolist(), confidence.tolist(), strict=True)
    ]


def _checked(scores: npt.NDArray[np.float64] | Sequence[float], count: int | None) -> npt.NDArray[np.float64]:
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"the model's scores are not numbers: {error}"
        raise BadModelOutput(msg) from error
    if array.ndim != 1 or (count is not None and len(array) != count):
        msg = f"the model answered with shape {array.shape}, expected ({'n' if count is None else count},)"
        raise BadModelOutput(msg)
    inside = (array >= 0) & (array <= 1)  # False for NaN
    if not inside.all():
        place = int(np.argmin(inside))
        msg = f"the model's score {place} is {array[place]}, expected a probability"
        raise BadModelOutput(msg)
    return np.round(array, 6)


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
