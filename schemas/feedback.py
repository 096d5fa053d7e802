"""`Feedback`: anything learned later about a decision, on topic `decision-feedback`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from pointsman.schemas.request import AgentName, EventTime, Id, Unit

Signal = Literal["accepted", "edited", "reverted", "ignored"]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing, or several, learned about a decision.

    The record's key is the key of its request (``unit`` where there was one, else ``decision_id``),
    so that both meet in one partition. The last event of a kind wins; all are kept.
    """

    id: Id
    """Of this event: the same event sent twice counts once."""
    decision_id: Id
    agent: AgentName
    observed_at: EventTime
    """When it became known, by the sender's clock."""
    unit: Unit | None = None
    sender: Annotated[str, Meta(max_length=200)] = ""
    """Who says so: a person, a program."""
    label: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    """The truth: the prediction that would have been right."""
    rating: Annotated[float, Meta(ge=1, le=5)] | None = None
    comment: Annotated[str, Meta(max_length=10_000)] | None = None
    signal: Signal | None = None
    """What people did with it, where nobody said anything."""
    task_completed_at: EventTime | None = None
    task_duration_s: Amount | None = None
    """How long the task took that the decision was for."""
    correction: Annotated[str, Meta(max_length=10_000)] | None = None
    complaint: Annotated[str, Meta(max_length=10_000)] | None = None
    critical_error: Annotated[str, Meta(max_length=10_000)] | None = None
    safety_violation: Annotated[str, Meta(max_length=10_000)] | None = None
    tokens: Count | None = None
    tool_calls: Count | None = None
    tool_calls_correct: Count | None = None
    cost: Amount | None = None
    """In the currency that the deployment uses throughout."""
    schema_version: Annotated[int, Meta(ge=1)] = 1


_ENVELOPE = frozenset({"id", "decision_id", "agent", "observed_at", "unit", "sender", "schema_version"})
KINDS: tuple[str, ...] = tuple(name for name in Feedback.__struct_fields__ if name not in _ENVELOPE)


def kinds(feedback: Feedback) -> dict[str, str | float | datetime]:
    """Kind to value for every kind that this event carries."""
    return {name: value for name in KINDS if (value := getattr(feedback, name)) is not None}
