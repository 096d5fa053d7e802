"""`Outcome`: the answer to one request, on topic `decision-outcomes`; `ShadowAnswer` beside it.

Messages are trees: nothing in them points back, so the garbage collector need not look at them (``gc=False``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from pointsman.schemas.request import EventTime, Moment, Object

Source = Literal["ml", "deterministic"]
Arm = Literal["candidate", "control"]
Status = Literal["final", "pending_approval"]
Action = Literal["act", "validate", "escalate"]


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """What one decider says of one request."""

    decider: str
    """Name and version, as in ``rules@1`` or ``ml@2026.11.1``."""
    prediction: str
    score: float
    """The decider's own number: a probability of the positive class, 6 decimals."""
    confidence: float
    """Probability that ``prediction`` is right, relative to the agent's decision threshold, 0.5 to 1."""
    reason: str = ""


class Answers(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Both arms' answers as far as they were known when the outcome was emitted.

    A model answer that came later (nothing waits for a shadow) is a `ShadowAnswer`.
    """

    rules: Answer
    ml: Answer | None = None


class FlagState(Struct, frozen=True, kw_only=True):
    """The flag as it stood when the request was routed."""

    name: str
    percentage: float
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    """0: it was never set."""


class Versions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the answer was made with."""

    pointsman: str
    features: str
    rules: str
    ml: str | None = None


class Place(Struct, frozen=True, kw_only=True, gc=False):
    """Where the request lay: unique for each request of one cluster."""

    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """Why an attempt failed."""

    reason: str
    """One of the reasons of dead letters."""
    field: str
    expected: str


class History(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a request went through before it was answered, where it was not answered at once."""

    attempts: int = 1
    """How often it was tried since it was sent, or sent again; the last time it was answered."""
    first_error: Cause | None = None
    """Why the first attempt failed."""
    taken_from: Place | None = None
    """Where it lay in the delay topic that it was taken from; null where the first attempt did."""
    redriven: int = 0
    """How often it was sent again from the dead letters."""
    first_place: Place | None = None
    """Where it lay when it was first sent, if it was sent again."""


class Reached(Struct, frozen=True, kw_only=True, gc=False):
    """How far the keyed state was that the features came from."""

    feedback_offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    """Of the partition of `decision-feedback`: everything before it was learned, and nothing from it on."""


class Timings(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Milliseconds. ``total`` runs from the request's record time to the emission of its outcome."""

    total_ms: float
    features_ms: float
    """The batch's feature time shared out over its requests."""
    model_ms: float | None = None
    """How long the batch waited for the model; null where nothing waited."""


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """One answer. Keyed by the request's id, in the partition of its request.

    Exactly one terminal outcome (``status = "final"``) is committed for each valid request,
    preceded by at most one with ``status = "pending_approval"`` and ``revision = 0``.
    """

    decision_id: str
    """The request's id."""
    agent: str
    unit: str | None
    status: Status
    revision: Annotated[int, Meta(ge=0, le=1)]
    success: bool
    source: Source
    """What kind answered."""
    arm: Arm
    """What the split assigned; a model that failed has arm ``candidate`` and source ``deterministic``."""
    prediction: str
    confidence: float
    reason: str
    action: Action
    needs_review: bool
    fallback_reason: str | None
    answers: Answers
    flag: FlagState
    versions: Versions
    features: Object
    """An object: feature name to number."""
    input: Object
    """The request's input as it was received."""
    requested_at: EventTime | None
    """The event's own time, from the request."""
    decided_at: Moment
    """Wall clock of the decision."""
    timings: Timings
    place: Place
    content_hash: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$(?!\n)")]
    """XXH3-64 of the request's value, in hex: tells a repeated request from another with the same id."""
    history: History | UnsetType = UNSET
    """Only where the request was tried again, or sent again from the dead letters."""
    state: Reached | UnsetType = UNSET
    """Only of agents that keep state."""
    schema_version: int = 1


class ShadowAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """An answer that was not served, on topic `decision-shadows`; keyed by the request's id."""

    decision_id: str
    agent: str
    answer: Answer
    answered_at: Moment
    place: Place
    """The request's, as in its outcome."""
    schema_version: int = 1


class Escalation(Struct, frozen=True, kw_only=True, gc=False):
    """A decision that a person should look at, on topic `decision-escalations`."""

    decision_id: str
    agent: str
    unit: str | None
    status: Status
    prediction: str
    confidence: float
    reason: str
    why: Literal["low_confidence", "approval_required"]
    escalated_at: Moment
    place: Place
    schema_version: int = 1
