"""Drift: whether what a model is asked, and what it answers, is still what it was trained on. Pure.

Training leaves a `Reference` in the model's card: for each feature, and for the score, the borders of some bins and how
many of the training part fell into each. What comes later is counted into the same bins (`Grid`), and `compare` says of
each whether it has drifted: enough decisions, a difference large enough to matter, and one that chance does not explain,
all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

Floats: TypeAlias = npt.NDArray[np.float64]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Verdict = Literal["stable", "drifted", "too_few"]

SCORE: Final = "ml_score"
"""Stands for the model's score where features are named."""
BINS: Final = 10
SHARE_MIN: Final = 0.01
"""Of the training part, in a bin before the last: rarer values share one."""
EXPECTED_MIN: Final = 5.0
"""Decisions to expect in a bin, so that chi-square says what chance does; bins with fewer are pooled with their neighbours."""


class Bins(Struct, frozen=True):
    """One feature over the training part: bin 0 holds what is up to the first edge, bin i what lies above edge i - 1."""

    feature: str
    edges: tuple[float, ...]
    counts: tuple[Count, ...]


class Reference(Struct, frozen=True):
    """What the training part was like; the model's score stands last."""

    bins: tuple[Bins, ...]


class Limits(Struct, frozen=True, kw_only=True):
    """When something has drifted: only where all three are met."""

    decisions: int = 500
    effect: float = 0.25
    """Population stability index."""
    alpha: float = 0.01
    """Of the family of all features that are looked at together."""


class Drift(Struct, frozen=True):
    """How one feature stands to the reference; None where nothing was counted."""

    feature: str
    n: int
    effect: float | None
    p: float | None
    """Corrected for the number of features (Holm); of decisions that had nothing to do with each other."""
    verdict: Verdict


class Grid:
    """A reference, made ready to count decisions: all features in a few steps of numpy."""

    def __init__(self, reference: Reference) -> None:
        self._bins = reference.bins
        *features, score = reference.bins
        widest = max([len(each.edges) for each in features], default=0)
        self._edges = np.full((len(features), widest), np.inf)
        for row, each in zip(self._edges, features, strict=True):
            row[: len(each.edges)] = each.edges
        self._score_edges = np.array(score.edges)
        widths = [len(each.counts) for each in reference.bins]
        starts = np.concatenate(([0], np.cumsum(widths)))
        self._starts, self._score_start, self.size = starts[:-2], int(starts[-2]), int(starts[-1])

    def counts(self, rows: Floats, scores: Floats) -> npt.NDArray[np.int64]:
        """How many fall into each bin, feature after feature and the score last; there may be fewer scores than rows."""
        places = self._starts + (rows[:, :, None] > self._edges).sum(axis=2)
        of_scores = self._score_start + np.searchsorted(self._score_edges, scores, side="left")
        return np.bincount(np.concatenate((places.ravel(), of_scores)), minlength=self.size)

    def split(self, counts: Sequence[int]) -> list[tuple[int, ...]]:
        """Counts of all bins, by feature."""
        ends = [*self._starts.tolist(), self._score_start, self.size]
        return [tuple(counts[start:end]) for start, end in pairwise(ends)]


def reference(names: Sequence[str], matrix: Floats, scores: Floats) -> Reference:
    """Of the training part: its features (n, features), and the model's scores of the same decisions."""
    if SCORE in names:
        msg = f"no feature may be named {SCORE}"
        raise ValueError(msg)
    columns = [*matrix.T, scores]
    empty = Reference(
        tuple(
            Bins(name, edges := _edges(column), (0,) * (len(edges) + 1))
            for name, column in zip([*names, SCORE], columns, strict=True)
        )
    )
    grid = Grid(empty)
    counted = grid.split(grid.counts(matrix, scores).tolist())
    return Reference(
        tuple(Bins(each.feature, each.edges, n) for each, n in zip(empty.bins, counted, strict=True))
    )


def _edges(values: Floats) -> tuple[float, ...]:
    """Borders of up to `BINS` bins of about equal shares; one that many share has a bin of its own.

    A border lies between two values that there are, so that a last digit computed otherwise moves nothing.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:  # what is above and below it is new
        always = float(distinct[0])
        margin = 1e-6 * max(1.0, abs(always))
        return always - margin, always + margin
    upto = np.cumsum(counts)
    n, last = int(upto[-1]), len(distinct) - 1
    edges: list[float] = []
    done = place = 0
    while len(edges) < BINS - 1:
        wanted = done + max((n - done) / (BINS - len(edges)), SHARE_MIN * n)
        place = max(place, int(np.searchsorted(upto, wanted)))
        if place >= last:
            break
        edges.append(_between(float(distinct[place]), float(distinct[place + 1])))
        done = int(upto[place])
        place += 1
    return tuple(edges) or (_between(float(distinct[-2]), float(distinct[-1])),)


def _between(low: float, high: float) -> float:
    """A short number from ``low`` up to, without, ``high``."""
    middle = low / 2 + high / 2
    for found in (float(f"{middle:.6g}"), middle):
        if low <= found < high:
            return found
    return low


def problem(given: Reference, names: Sequence[str]) -> str | None:
    """What is wrong with a reference of a model of these features, or None."""
    if [each.feature for each in given.bins] != [*names, SCORE]:
        return f"its reference is not of feature_names and {SCORE}"
    for each in given.bins:
        if len(each.counts) != len(each.edges) + 1 or any(low >= high for low, high in pairwise(each.edges)):
            return f"its reference of {each.feature} has no ascending edges, each between two counts"
    return None


def compare(given: Reference, counts: Sequence[Sequence[int]], limits: Limits) -> list[Drift]:
    """Each feature's counts, in the order of the reference, beside the training part's."""
    ns = [sum(observed) for observed in counts]
    effects = [
        psi(each.counts, observed) if n else None
        for each, observed, n in zip(given.bins, counts, ns, strict=True)
    ]
    ps = [
        chance(each.counts, observed) if n else None
        for each, observed, n in zip(given.bins, counts, ns, strict=True)
    ]
    enough = [place for place, n in enumerate(ns) if n >= max(1, limits.decisions)]
    corrected = holm([ps[place] or 0.0 for place in enough])
    for place, found_p in zip(enough, corrected, strict=True):
        ps[place] = found_p
    found = []
    for place, each in enumerate(given.bins):
        n, effect, p = ns[place], effects[place], ps[place]
        verdict: Verdict = "stable"
        if n < max(1, limits.decisions) or effect is None or p is None:
            verdict = "too_few"
        elif effect >= limits.effect and p < limits.alpha:
            verdict = "drifted"
        found.append(Drift(each.feature, n, effect, p, verdict))
    return found


def psi(expected: Sequence[int], observed: Sequence[int]) -> float:
    """The population stability index: sum over bins of the difference of shares times the logarithm of their ratio.

    It is the symmetric Kullback-Leibler divergence. Half a decision is added to each bin, so an empty one is no infinity.
    """
    m, n = sum(expected) + len(expected) / 2, sum(observed) + len(observed) / 2
    total = 0.0
    for r, o in zip(expected, observed, strict=True):
        was, is_ = (r + 0.5) / m, (o + 0.5) / n
        total += (is_ - was) * math.log(is_ / was)
    return total


def chance(expected: Sequence[int], observed: Sequence[int]) -> float:
    """The chance of so large a difference if both were drawn from the same, by chi-square of two samples.

    Both must be decisions that have nothing to do with each other. Those of one landing have: then it says too little.
    """
    m, n = sum(expected), sum(observed)
    if not m or not n:
        return 1.0
    share = min(m, n) / (m + n)
    pooled: list[list[int]] = [[0, 0]]
    for r, o in zip(expected, observed, strict=True):
        if sum(pooled[-1]) * share >= EXPECTED_MIN:
            pooled.append([0, 0])
        pooled[-1][0] += r
        pooled[-1][1] += o
    if len(pooled) > 1 and sum(pooled[-1]) * share < EXPECTED_MIN:
        r, o = pooled.pop()
        pooled[-1][0] += r
        pooled[-1][1] += o
    more, less = math.sqrt(m / n), math.sqrt(n / m)
    statistic = sum((more * o - less * r) ** 2 / (r + o) for r, o in pooled)
    return chi_square(statistic, len(pooled) - 1)


def chi_square(x: float, degrees: int) -> float:
    """P(more than ``x``) by so many degrees of freedom; a finite sum, for they are whole."""
    if degrees <= 0 or x <= 0:
        return 1.0
    half, even = x / 2, degrees % 2 == 0
    total = 0.0 if even else math.erfc(math.sqrt(half))
    term = math.exp(-half) * (1.0 if even else math.sqrt(half) / math.gamma(1.5))
    for i in range(1, degrees // 2 + 1):
        total += term
        term *= half / (i if even else i + 0.5)
    return min(1.0, total)


def holm(ps: Sequence[float]) -> list[float]:
    """Chances corrected for how many are looked at: below alpha only where few false alarms of all together are to be feared."""
    order = sorted(range(len(ps)), key=lambda place: ps[place])
    corrected, least = [0.0] * len(ps), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, ps[place] * (len(ps) - rank)))
        corrected[place] = least
    return corrected
