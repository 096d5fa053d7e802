"""The condition of a lane and of a worker, in one word that people and scripts can act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

Condition = Literal["ok", "behind", "starting", "stalled"]

BEHIND_BATCHES: Final = 2
"""For each partition owned: a full batch under way and one that waits are everyday life, more is a backlog."""
WORST_FIRST: Final[tuple[Condition, ...]] = ("stalled", "starting", "behind", "ok")


def of_lane(lane: Mapping[str, Any], batch_records_max: int) -> Condition:
    """``stalled``: no progress; ``starting``: not yet ready; ``behind``: it works on a backlog; else ``ok``.

    ``lane`` is its health report. Behind is no illness: more workers help, a restart does not.
    """
    if not lane["healthy"]:
        return "stalled"
    if not lane["ready"]:
        return "starting"
    everyday = BEHIND_BATCHES * batch_records_max * max(1, len(lane["partitions"]))
    return "behind" if lane["lag_records"] > everyday else "ok"


def worst(conditions: Iterable[Condition]) -> Condition:
    """Of several the one that asks for attention first; of none, ``ok``."""
    found = set(conditions)
    return next((each for each in WORST_FIRST if each in found), "ok")
