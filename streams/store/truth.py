"""What is known of a decision later, and what it adds to the minute of the decision. Pure.

An event changes what is known; what it adds is the difference between what is counted after it and before it. So events
may come in any order, twice, or contradict each other: the last of a kind counts, and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, TypeAlias

from pointsman.schemas.feedback import Feedback, kinds
from pointsman.streams.store.copyrow import EPOCH, clean, micros
from pointsman.streams.store.minutes import Key, minute_of

FREE_TEXT: Final = frozenset({"comment", "correction", "complaint", "critical_error", "safety_violation"})
"""Kinds whose text people write, so that it may speak of people: the text lies apart, here stands that there is one."""
SIGNED: Final = frozenset({"critical_error", "safety_violation"})
"""Kinds that roll back without any minimum sample: they count only where a source that may report them signed the event."""

Name: TypeAlias = tuple[str, str]
"""decision id, agent."""
Told: TypeAlias = Mapping[str, Any]
"""Kind to its last value that counts, as JSON has it."""
LabelKey: TypeAlias = tuple[str, int, str, int, str, str, str, str]
"""A `Key`, label, and what was served, what the rules and what the model said (empty: nothing)."""

COUNTERS: Final = (
    "decisions", "ratings", "rating_sum_e6", "comments", "accepted", "edited", "reverted", "ignored", "corrections",
    "complaints", "critical_errors", "safety_violations", "tasks", "task_sum_ms", "token_tasks", "token_sum", "tool_tasks",
    "tool_calls", "tool_calls_correct", "cost_tasks", "cost_sum_e6",
)  # fmt: skip
"""The counted columns of `decision_truth_shards`, in order."""
_SIGNALS: Final = ("accepted", "edited", "reverted", "ignored")
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a decision is counted, and what was said."""

    minute: datetime
    arm: str
    shard: int
    asked_at: datetime
    served: str
    rules: str
    ml: str | None


@dataclass(frozen=True, slots=True)
class Truth:
    """All that is known of one decision."""

    told: Told = field(default_factory=dict)
    place: Place | None = None
    """None while the decision is not known."""

    def learn(self, told: Told) -> Self:
        """With what an event says; the last of a kind counts."""
        return replace(self, told={**self.told, **told})


@dataclass(slots=True)
class Added:
    """What some changes add to the aggregates; differences, so they may be negative."""

    counters: dict[Key, list[int]] = field(default_factory=dict)
    labels: dict[LabelKey, int] = field(default_factory=dict)

    def change(self, agent: str, before: Truth, after: Truth) -> None:
        """Count ``after`` where ``before`` was counted."""
        self._add(agent, before, -1)
        self._add(agent, after, 1)

    def _add(self, agent: str, truth: Truth, sign: int) -> None:
        place, told = truth.place, truth.told
        if place is None or not told:
            return
        key: Key = (agent, minute_of(place.minute), place.arm, place.shard)
        known = self.counters.setdefault(key, [0] * len(COUNTERS))
        for i, value in enumerate(counted(told, place.asked_at)):
            known[i] += sign * value
        if "label" in told:
            cell = (*key, str(told["label"]), place.served, place.rules, place.ml or "")
            self.labels[cell] = self.labels.get(cell, 0) + sign

    def settle(self) -> None:
        """Forget what comes to nothing."""
        self.counters = {key: values for key, values in self.counters.items() if any(values)}
        self.labels = {key: n for key, n in self.labels.items() if n}


def told_by(event: Feedback, *, authorised: bool) -> dict[str, Any]:
    """What an event says that counts: kind to value, as JSON has it."""
    return {
        kind: True if kind in FREE_TEXT else _plain(value)
        for kind, value in kinds(event).items()
        if authorised or kind not in SIGNED
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (EPOCH + timedelta(microseconds=micros(value))).isoformat()
    return clean(value) if isinstance(value, str) else value


def counted(told: Told, asked_at: datetime) -> tuple[int, ...]:
    """What one decision adds, in the order of `COUNTERS`. Sums are whole numbers: they add up in any order."""
    task_ms = task(told, asked_at)
    rating, tokens, cost = told.get("rating"), told.get("tokens"), told.get("cost")
    tools = "tool_calls" in told and "tool_calls_correct" in told
    signal = told.get("signal")
    return (
        1,
        rating is not None,
        0 if rating is None else round(rating * 1_000_000),
        "comment" in told,
        *(signal == each for each in _SIGNALS),
        "correction" in told,
        "complaint" in told,
        "critical_error" in told,
        "safety_violation" in told,
        task_ms is not None,
        task_ms or 0,
        tokens is not None,
        int(tokens or 0),
        tools,
        int(told["tool_calls"]) if tools else 0,
        int(told["tool_calls_correct"]) if tools else 0,
        cost is not None,
        0 if cost is None else round(cost * 1_000_000),
    )


def task(told: Told, asked_at: datetime) -> int | None:
    """Milliseconds that the task took: as said, else from the request (or the decision) to its end; None: not known."""
    if (seconds := told.get("task_duration_s")) is not None:
        return round(float(seconds) * 1000)
    if (completed := told.get("task_completed_at")) is None:
        return None
    took: timedelta = datetime.fromisoformat(completed).astimezone(UTC) - asked_at
    return max(0, took // _MILLISECOND)
