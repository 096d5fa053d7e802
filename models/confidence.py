"""Confidence of an answer relative to the threshold by which it was decided."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

DECIMALS: Final = 6
"""Scores are rounded before they are compared: linear algebra differs in the last bits with the batch size."""


def rounded(score: float) -> float:
    """A score as it is compared, stored and shown."""
    return round(score, DECIMALS)


def shifted(probability: float, threshold: float) -> float:
    """The probability with the threshold's odds taken out of its own: 0.5 at the threshold, monotone, in [0, 1].

    ``threshold`` lies strictly between 0 and 1. Costs that set the threshold act like a prior, so
    dividing by its odds says how far an answer is from tipping over, on the scale of a probability.
    """
    for_it = probability * (1 - threshold)
    against = (1 - probability) * threshold
    return for_it / (for_it + against)


def judge(probability: float, threshold: float) -> tuple[bool, float]:
    """Whether the positive class is predicted, and the confidence in what is predicted (0.5 to 1)."""
    score = rounded(probability)
    q = shifted(score, threshold)
    return score >= threshold, rounded(max(q, 1 - q))


def judge_all(
    probabilities: npt.NDArray[np.float64], threshold: float | npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """`judge` for an array; takes rounded scores, and one threshold for all or one for each."""
    for_it = probabilities * (1 - threshold)
    q = for_it / (for_it + (1 - probabilities) * threshold)
    return probabilities >= threshold, np.asarray(np.round(np.maximum(q, 1 - q), DECIMALS), dtype=np.float64)
