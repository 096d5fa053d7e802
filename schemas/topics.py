"""The topics: name, key, contract, retention. Names carry a prefix if `topic_prefix` is set."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

DAY_MS: Final = 24 * 60 * 60 * 1000


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
FLAGS: Final = Topic(name="control-flags", key="flag", carries="Flag", cleanup="compact", partitions=1)

ALL: Final = (REQUESTS, FEEDBACK, OUTCOMES, SHADOWS, ESCALATIONS, SUMMARIES, DEAD_LETTERS, FLAGS)
