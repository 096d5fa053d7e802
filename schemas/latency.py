"""Latency buckets: a geometric scale, so that histograms merge by addition and quantiles are right within 1 %."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, exp, log

GAMMA = 1.02
"""Ratio of a bucket's upper to its lower edge: the middle is then at most 1 % from any value in it."""
MIN_MS = 0.01
_LOG_GAMMA = log(GAMMA)


def bucket(milliseconds: float) -> int:
    """The bucket of a latency: 0 holds all up to 0.01 ms, ``b`` holds (0.01·γ^(b-1), 0.01·γ^b]."""
    if milliseconds <= MIN_MS:
        return 0
    return ceil(log(milliseconds / MIN_MS) / _LOG_GAMMA - 1e-9)


def middle_ms(index: int) -> float:
    """A latency that stands for all of a bucket: the harmonic middle, least relative error."""
    if index <= 0:
        return MIN_MS
    upper = MIN_MS * exp(index * _LOG_GAMMA)
    return 2 * upper / (1 + GAMMA)


def quantile_ms(histogram: Mapping[int, int], q: float) -> float | None:
    """The ``q`` quantile (0 to 1) in milliseconds, within 1 %; None for an empty histogram."""
    total = sum(histogram.values())
    if not total:
        return None
    rank = max(1, ceil(q * total))
    seen = 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= rank:
            return middle_ms(index)
    raise AssertionError("unreachable: ranks end at the total")
