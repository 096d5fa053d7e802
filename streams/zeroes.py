"""Counters that alerts look at begin with 0: Prometheus sees a rise only where there was a value before it.

Only what a worker may count, as far as its labels are known before; an error's name, say, is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pointsman.schemas.dead_letter import OF_BATCHES, REASONS
from pointsman.streams import metrics
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names

ARMS: Final = ("candidate", "control")
SOURCES: Final = ("ml", "deterministic")


def begin(settings: Settings, agents: Iterable[str]) -> None:
    """Export the counters of this worker's lanes at 0."""
    names = Names.of(settings)
    if "decisions" in settings.lanes:
        _of_lane("decisions", (names.requests, *names.retries))
        for reason in settings.retry_reasons:
            for attempt in range(2, len(settings.retry_delays_ms) + 2):
                metrics.RETRIES.labels(reason, attempt)
        for agent in agents:
            _of_agent(agent)
    if "sink" in settings.lanes:
        from pointsman.streams.store.truth import SIGNED  # noqa: PLC0415 - a worker that only decides has no store

        own = (names.outcomes, names.shadows, names.dead_letters, names.summaries)
        _of_lane("sink", (*own, names.feedback))
        for topic in own:
            metrics.FOREIGN.labels(topic)
        for kind in SIGNED:
            metrics.UNSIGNED.labels(kind)


def _of_lane(lane: str, topics: Iterable[str]) -> None:
    for reason in REASONS:
        metrics.DEAD_LETTERS.labels(lane, reason)
    for topic in topics:
        metrics.LOST.labels(topic)
        for reason in OF_BATCHES:
            metrics.UNREADABLE.labels(topic, reason)


def _of_agent(agent: str) -> None:
    for counter in (metrics.FEATURE_ERRORS, metrics.DUPLICATES, metrics.SHADOWS):
        counter.labels(agent)
    for arm in ARMS:
        for source in SOURCES:
            metrics.DECISIONS.labels(agent, arm, source)
