"""Requests to arms: sticky by unit, even without; counters are returned, not changed."""

from __future__ import annotations

from typing import TypeAlias

from pointsman.models.split import even, evenly, sticky
from pointsman.schemas.control import Flag
from pointsman.streams.decisions.validate import Accepted

Counter: TypeAlias = tuple[int, int]
"""Flag version, and how many requests without a unit it has split in this partition."""


def route(
    requests: list[Accepted], flag: Flag | None, partition: int, counter: Counter | None
) -> tuple[list[bool], Counter | None]:
    """For each request whether it is the candidate's, and the counter after them."""
    if flag is None:
        return [False] * len(requests), counter
    version, count = counter if counter and counter[0] == flag.version else (flag.version, 0)
    split = evenly(flag.seed, partition, count, flag.percentage)
    candidates = []
    for each in requests:
        unit = each.request.unit
        if unit is None:
            candidates.append(next(split))
            count += 1
        else:
            candidates.append(sticky(flag.seed, unit, flag.percentage))
    return candidates, (version, count)


def sampled(accepted: Accepted, share: float) -> bool:
    """An even sample of a share in percent, by the request's place: the same whatever batch it comes in."""
    return even("shadow", accepted.record.partition, accepted.record.offset, share)
