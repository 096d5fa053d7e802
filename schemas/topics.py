"""The topics: name, key, contract, retention. Names carry a prefix if `topic_prefix` is set.

The delay topics are named after their delays, which are a setting: `deployed` lists what a deployment has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from msgspec import Struct

TOMBSTONES_MS: Final = 24 * 3_600_000
"""A compacted topic keeps what says that something is gone so long at least."""
DAY_MS: Final = 24 * 60 * 60 * 1000
RETRY_DELAYS_MS: Final = (5_000, 15_000, 30_000)
"""Long enough in all for a worker to be replaced, short enough for a caller that still waits."""


class Topic(Struct, frozen=True, kw_only=True):
    """One topic. ``partitions`` None means: as many as requests, so that equal keys meet."""

    name: str
    key: str
    carries: str
    cleanup: Literal["delete", "compact"] = "delete"
    retention_ms: int = 7 * DAY_MS
    partitions: int | None = None


REQUESTS: Final = Topic(name="decision-requests", key="unit, else request id", carries="DecisionRequest")
FEEDBACK: Final = Topic(
    name="decision-feedback", key="the key of its request", carries="Feedback", retention_ms=90 * DAY_MS
)
OUTCOMES: Final = Topic(name="decision-outcomes", key="request id", carries="Outcome")
SHADOWS: Final = Topic(name="decision-shadows", key="request id", carries="ShadowAnswer")
ESCALATIONS: Final = Topic(
    name="decision-escalations", key="request id", carries="Escalation", retention_ms=30 * DAY_MS
)
SUMMARIES: Final = Topic(name="decision-summaries", key="agent", carries="Summary")
DEAD_LETTERS: Final = Topic(
    name="decision-dead-letters", key="as received", carries="bytes", retention_ms=30 * DAY_MS
)
REDRIVES: Final = Topic(
    name="decision-redrives", key="place of the letter", carries="Redrive", retention_ms=30 * DAY_MS
)
STATE: Final = Topic(
    name="decision-state",
    key="agent, version, kind, unit, name",
    carries="StateEntry",
    cleanup="compact",
)
FLAGS: Final = Topic(name="control-flags", key="flag", carries="Flag", cleanup="compact", partitions=1)


def retries(delay_ms: int) -> Topic:
    """The topic in which requests wait so long: `decision-retries-5s`, or `-250ms` where it is no whole second."""
    shown = f"{delay_ms}ms" if delay_ms % 1000 else f"{delay_ms // 1000}s"
    return Topic(name=f"decision-retries-{shown}", key="the key of its request", carries="DecisionRequest")


def deployed(retry_delays_ms: Iterable[int]) -> tuple[Topic, ...]:
    """All topics of a deployment with these delays; equal delays share one topic."""
    waiting = tuple(retries(delay_ms) for delay_ms in dict.fromkeys(retry_delays_ms))
    return (
        REQUESTS, FEEDBACK, OUTCOMES, SHADOWS, ESCALATIONS, *waiting, SUMMARIES, DEAD_LETTERS, REDRIVES, STATE,
        FLAGS,
    )  # fmt: skip


def co_partitioned(retry_delays_ms: Iterable[int]) -> tuple[Topic, ...]:
    """Those with as many partitions as requests: what belongs to a unit meets in one partition number of all of them."""
    return tuple(topic for topic in deployed(retry_delays_ms) if topic.partitions is None)


ALL: Final = deployed(RETRY_DELAYS_MS)
"""Those of a deployment with the default delays."""
