"""Intervals of means over groups, by resampling what belongs together: landing units, or whole repositories.

Decisions of one landing unit share their label, and those of one repository share much: intervals that take each
decision for a case of its own come out too narrow. A seed is given, so the same data gives the same interval.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from pointsman.models.evaluate import NOTHING, Estimate, Flags

ROUNDS: Final = 1_000
_INTERVAL: Final = (0.025, 0.975)

Numbers = npt.NDArray[np.float64]


class MacroPair(Struct, frozen=True, kw_only=True):
    """Balanced accuracy of two arms on the same decisions, as the mean over groups, and second minus first."""

    groups: int
    """Those with enough of both classes."""
    clusters: int
    """What was drawn again in each of them."""
    resampled: Literal["clusters", "groups"]
    first: Estimate
    second: Estimate
    second_minus_first: Estimate


def macro_pair(
    truth: Flags,
    said: tuple[Flags, Flags],
    groups: npt.NDArray[np.str_],
    clusters: npt.NDArray[Any],
    *,
    resampled: Literal["clusters", "groups"],
    least: int = 1,
    seed: int = 0,
) -> MacroPair:
    """``said``: what the first and the second arm predict.

    ``resampled``: clusters are drawn again within each group (another sample of the same groups), or groups first
    and then clusters within them (other groups of the same kind). Groups with fewer than ``least`` decisions of either
    class are left out.
    """
    random = np.random.default_rng(seed)
    values, drawn, count = [], [], 0
    for name in np.unique(groups):
        mine = groups == name
        if min(int(truth[mine].sum()), int((~truth[mine]).sum())) < least:
            continue
        table = _table(truth[mine], [each[mine] for each in said], clusters[mine])
        count += len(table)
        values.append(_balanced(table.sum(axis=0)[None])[0])
        chosen = random.multinomial(len(table), np.full(len(table), 1 / len(table)), size=ROUNDS)
        drawn.append(_balanced(chosen @ table))
    if not values:
        return MacroPair(
            groups=0,
            clusters=0,
            resampled=resampled,
            first=NOTHING,
            second=NOTHING,
            second_minus_first=NOTHING,
        )
    means = _means(np.array(drawn), random if resampled == "groups" else None)
    point = np.array(values).mean(axis=0)
    return MacroPair(
        groups=len(values),
        clusters=count,
        resampled=resampled,
        first=_estimate(point[0], means[:, 0]),
        second=_estimate(point[1], means[:, 1]),
        second_minus_first=_estimate(point[1] - point[0], means[:, 1] - means[:, 0]),
    )


def _table(truth: Flags, said: list[Flags], clusters: npt.NDArray[Any]) -> Numbers:
    """By cluster: positives, negatives, and how many of each the arms have right."""
    _, place = np.unique(clusters, return_inverse=True)
    columns = [truth, ~truth, *(column for each in said for column in (each & truth, ~each & ~truth))]
    return np.column_stack([np.bincount(place, weights=column) for column in columns])


def _balanced(sums: Numbers) -> Numbers:
    """(rounds, 6) sums to (rounds, 2) balanced accuracies; a draw without one class has a half for it."""
    positives, negatives = sums[:, 0], sums[:, 1]
    arms = []
    for place in (2, 4):
        hits = np.where(positives > 0, sums[:, place] / np.maximum(positives, 1), 0.5)
        passes = np.where(negatives > 0, sums[:, place + 1] / np.maximum(negatives, 1), 0.5)
        arms.append((hits + passes) / 2)
    return np.column_stack(arms)


def _means(drawn: Numbers, random: np.random.Generator | None) -> Numbers:
    """Means over groups of (groups, rounds, 2); with ``random`` over groups that are drawn for each round."""
    if random is None:
        return np.asarray(drawn.mean(axis=0))
    count, rounds, _ = drawn.shape
    chosen = random.integers(count, size=(rounds, count))
    return np.asarray(drawn[chosen, np.arange(rounds)[:, None]].mean(axis=1))


def _estimate(value: float, drawn: Numbers) -> Estimate:
    low, high = np.quantile(drawn, _INTERVAL)
    return Estimate(
        round(float(value), 6), round(float(min(low, value)), 6), round(float(max(high, value)), 6)
    )
