"""The split: which arm a request is assigned to. Pure; the same for every redelivery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import mmh3

BUCKETS: Final = 10_000
"""So a percentage counts in steps of 0.01."""

_WORD: Final = 1 << 64
_GOLDEN: Final = 0x9E3779B97F4A7C15
"""2^64 / golden ratio: multiples of it, taken modulo 2^64, fill [0, 2^64) as evenly as a sequence can.
Of any 1,000 in a row, the share below p is p ± 0.2 points for every whole p (Kronecker sequence; Knuth,
The Art of Computer Programming, vol. 3, 6.4, theorem S)."""
_SHIFT: Final = 0xC13FA9A902A6328F
"""2^64 / plastic number: another irrational step, so that partitions' sequences do not run in step."""


def bucket(seed: str, unit: str) -> int:
    """The unit's bucket, 0 to 9,999, spread evenly by murmur3 (32 bit) of ``seed:unit``."""
    return (mmh3.hash(f"{seed}:{unit}", 0, signed=False) * BUCKETS) >> 32


def sticky(seed: str, unit: str, percentage: float) -> bool:
    """Whether a unit is the candidate's. Raising the percentage only ever adds units."""
    return bucket(seed, unit) < round(percentage * BUCKETS / 100)


def even(seed: str, partition: int, counter: int, percentage: float) -> bool:
    """Whether the ``counter``-th request without a unit, of one partition and flag version, is the candidate's."""
    return next(evenly(seed, partition, counter, percentage))


def evenly(seed: str, partition: int, counter: int, percentage: float) -> Iterator[bool]:
    """`even` for this counter and all that follow, without end: what a batch shares is computed once."""
    place = (mmh3.hash(seed, 0, signed=False) << 32) + partition * _SHIFT + counter * _GOLDEN
    below = round(percentage * BUCKETS / 100) * _WORD // BUCKETS
    while True:
        place %= _WORD
        yield place < below
        place += _GOLDEN
