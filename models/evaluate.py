"""How good answers are, with 95 % intervals. Needs numpy only, so that any table may use it.

Intervals: Wilson's score interval for a proportion (Wilson 1927); for means of several proportions the
recovered variances of their Wilson intervals, "MOVER" (Zou and Donner 2008); for two arms on the same
decisions the adjusted Wald interval of Agresti and Min (2005). All are closed formulas: no seed, no luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Z: Final = 1.959964
"""Normal quantile of a two-sided 95 % interval."""
CALIBRATION_BINS: Final = 10

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


class Estimate(Struct, frozen=True):
    """A value with its 95 % interval; 0, 0, 1 where there was nothing to measure."""

    value: float
    low: float
    high: float


NOTHING: Final = Estimate(0.0, 0.0, 1.0)


class Costs(Struct, frozen=True):
    """What the two kinds of error cost, in any common unit."""

    needless: float
    """Positive predicted, negative true."""
    missed: float
    """Negative predicted, positive true."""

    @property
    def threshold(self) -> float:
        """The probability from which on predicting the positive class costs less on average."""
        return self.needless / (self.needless + self.missed)


class CalibrationBin(Struct, frozen=True):
    """Decisions with scores in [low, high): how often the positive class was said and was true."""

    low: float
    high: float
    n: int
    mean_score: float
    share_positive: float


class Quality(Struct, frozen=True, kw_only=True):
    """One arm's figures on labelled decisions. ``auc`` and ``brier`` rate the scores, all else the predictions."""

    n: int
    positives: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    success: Estimate
    auc: float
    brier: float
    calibration: list[CalibrationBin]
    macro_balanced_accuracy: Estimate | None = None
    """Mean over groups (repositories) that have both classes."""
    macro_success: Estimate | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """Second arm minus first on the same decisions, and how many only one of them got right."""

    n: int
    only_first_right: int
    only_second_right: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    success: Estimate


def wilson(right: float, n: int) -> Estimate:
    """Proportion ``right / n`` with Wilson's interval.

    ``right`` may be a sum of values in [0, 1]: no such value varies more than a coin with the same
    mean, so that the interval is then wider than need be, never too narrow.
    """
    if n == 0:
        return NOTHING
    p = right / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * sqrt(max(0.0, p * (1 - p)) / n + Z * Z / (4 * n * n))
    return Estimate(p, max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates (MOVER)."""
    k = len(estimates)
    if k == 0:
        return NOTHING
    value = sum(e.value for e in estimates) / k
    below = sqrt(sum((e.value - e.low) ** 2 for e in estimates)) / k
    above = sqrt(sum((e.high - e.value) ** 2 for e in estimates)) / k
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def accuracy(truth: Flags, said: Flags) -> Estimate:
    """Share of right answers."""
    return wilson(int((truth == said).sum()), len(truth))


def balanced_accuracy(truth: Flags, said: Flags) -> Estimate:
    """Mean of the shares of right answers in the two classes; with one class only, that class's share."""
    classes = [wilson(int((said[mask] == truth[mask]).sum()), int(mask.sum())) for mask in (truth, ~truth)]
    return mean_of([e for e, mask in zip(classes, (truth, ~truth), strict=True) if mask.any()])


def success_values(truth: Flags, said: Flags, costs: Costs) -> Numbers:
    """Per decision: 1 where right, else 1 less the error's cost as a share of the dearer error's."""
    dearer = max(costs.needless, costs.missed)
    values = np.ones(len(truth))
    values[said & ~truth] = 1 - costs.needless / dearer
    values[~said & truth] = 1 - costs.missed / dearer
    return values


def success(truth: Flags, said: Flags, costs: Costs) -> Estimate:
    """Mean of `success_values`."""
    return wilson(float(success_values(truth, said, costs).sum()), len(truth))


def auc(truth: Flags, scores: Numbers) -> float:
    """Chance that a positive scores above a negative, ties counted half; 0.5 with one class only."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return 0.5
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def brier(truth: Flags, scores: Numbers) -> float:
    """Mean squared distance of scores from truth; 0 for no decisions."""
    return float(np.mean((scores - truth) ** 2)) if len(truth) else 0.0


def calibration(truth: Flags, scores: Numbers) -> list[CalibrationBin]:
    """Ten bins of equal width; empty ones are left out."""
    place = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        CalibrationBin(
            i / CALIBRATION_BINS,
            (i + 1) / CALIBRATION_BINS,
            int(mask.sum()),
            round(float(scores[mask].mean()), 4),
            round(float(truth[mask].mean()), 4),
        )
        for i in range(CALIBRATION_BINS)
        if (mask := place == i).any()
    ]


def quality(
    truth: Flags, said: Flags, scores: Numbers, costs: Costs, groups: npt.NDArray[np.str_] | None = None
) -> Quality:
    """All figures of one arm; arrays of the same length. ``groups`` adds the means over groups."""
    parts = [] if groups is None else [groups == name for name in np.unique(groups)]
    both = [mask for mask in parts if truth[mask].any() and not truth[mask].all()]
    return Quality(
        n=len(truth),
        positives=int(truth.sum()),
        accuracy=accuracy(truth, said),
        balanced_accuracy=balanced_accuracy(truth, said),
        success=success(truth, said, costs),
        auc=auc(truth, scores),
        brier=brier(truth, scores),
        calibration=calibration(truth, scores),
        macro_balanced_accuracy=mean_of([balanced_accuracy(truth[m], said[m]) for m in both])
        if both
        else None,
        macro_success=mean_of([success(truth[m], said[m], costs) for m in parts]) if parts else None,
    )


def paired_difference(truth: Flags, first: Flags, second: Flags, costs: Costs) -> Difference:
    """Second minus first, each figure with the interval that belongs to pairs."""
    classes = [_discordance(truth[mask], first[mask], second[mask]) for mask in (truth, ~truth)]
    dearer = max(costs.needless, costs.missed)
    total = len(truth)
    present = [c for c in classes if c[2]] or classes[:1]
    shares = [c[2] / total if total else 0.0 for c in classes]
    weights = [costs.missed / dearer * shares[0], costs.needless / dearer * shares[1]]
    only_first, only_second, _ = _discordance(truth, first, second)
    return Difference(
        n=total,
        only_first_right=only_first,
        only_second_right=only_second,
        accuracy=_combined([_discordance(truth, first, second)], [1.0]),
        balanced_accuracy=_combined(present, [1 / len(present)] * len(present)),
        success=_combined(classes, weights),
    )


def _discordance(truth: Flags, first: Flags, second: Flags) -> tuple[int, int, int]:
    """How many only the first had right, only the second, and how many there are."""
    right_first, right_second = first == truth, second == truth
    return int((right_first & ~right_second).sum()), int((right_second & ~right_first).sum()), len(truth)


def _combined(counts: Sequence[tuple[int, int, int]], weights: Sequence[float]) -> Estimate:
    """Weighted sum of paired differences of independent classes, half a pair added to each cell for the interval."""
    value = middle = variance = 0.0
    for (only_first, only_second, n), weight in zip(counts, weights, strict=True):
        difference, both, m = only_second - only_first, only_first + only_second + 1, n + 2
        value += weight * difference / n if n else 0.0
        middle += weight * difference / m
        variance += weight**2 * (both - difference**2 / m) / m**2
    half = Z * sqrt(variance)
    return Estimate(value, max(-1.0, min(value, middle - half)), min(1.0, max(value, middle + half)))
