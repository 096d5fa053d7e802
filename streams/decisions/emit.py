"""Answers to messages: outcomes, escalations, shadow answers, and the sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
from msgspec import UNSET, UnsetType

from pointsman.models.decider import Row
from pointsman.schemas.codec import encode
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import (
    Answer,
    Answers,
    Escalation,
    FlagState,
    History,
    Outcome,
    Place,
    ShadowAnswer,
    Timings,
)
from pointsman.schemas.retry import Assigned
from pointsman.schemas.summary import ArmSummary
from pointsman.streams.decisions.ask import Asked
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.trace import carry
from pointsman.streams.decisions.validate import Accepted, Rejected
from pointsman.streams.output import Message

_encode = msgspec.json.Encoder().encode

OUTCOME_BYTES_MAX: Final = 850_000
"""Fits a batch with its key and headers. The largest request leaves 50,000 bytes for what an agent says of it."""


@dataclass(slots=True)
class Decided:
    """What one agent's part of a batch leads to."""

    outcomes: list[Message] = field(default_factory=list)
    escalations: list[Message] = field(default_factory=list)
    arms: dict[str, ArmSummary] = field(default_factory=dict)
    pending: int = 0
    """Outcomes that wait for a person and are not terminal."""
    unasked: list[int] = field(default_factory=list)
    """Places of the requests that the model may be asked for as a shadow."""
    too_large: list[Rejected] = field(default_factory=list)
    """Requests whose outcome no batch can hold."""


@dataclass(slots=True)
class Decision:
    """One agent's part of a batch, decided: parallel lists, one entry a request."""

    runtime: Runtime
    requests: list[Accepted]
    rows: list[Row]
    candidates: list[bool]
    rules: list[Answer]
    asked: Asked
    flag: Flag | Assigned | None
    features_ms: float
    histories: list[History | UnsetType] | None = None
    """None where no request was tried or sent before."""


def emit(decision: Decision, now: datetime) -> Decided:
    """Outcomes and escalations of a decision, made at ``now`` (UTC)."""
    decided = Decided()
    for arm in ("candidate", "control"):
        decided.arms[arm] = ArmSummary(agent=decision.runtime.agent.name, arm=arm)
    shared = _Shared(decision, now)
    for i in range(len(decision.requests)):
        _emit_one(decision, shared, i, decided)
    decided.arms = {arm: summary for arm, summary in decided.arms.items() if summary.decisions}
    return decided


class _Shared:
    """What is the same for all of a batch, encoded once: `Raw` parts are copied as they are."""

    def __init__(self, decision: Decision, now: datetime) -> None:
        runtime, flag = decision.runtime, decision.flag
        state = FlagState(
            name=runtime.agent.flag,
            percentage=flag.percentage if flag else 0.0,
            version=flag.version if flag else 0,
        )
        self.now = now
        self.now_ms = now.timestamp() * 1000
        self.decided_at = cast(Any, msgspec.Raw(_encode(now)))
        self.flag = cast(Any, msgspec.Raw(_encode(state)))
        self.versions = cast(Any, runtime.versions_raw)
        self.features_ms = round(decision.features_ms / max(1, len(decision.requests)), 4)
        self.model_ms = None if decision.asked.waited_ms is None else round(decision.asked.waited_ms, 3)
        self.approval = runtime.agent.policy == "APPROVAL_REQUIRED"


def _emit_one(decision: Decision, shared: _Shared, i: int, decided: Decided) -> None:
    runtime, accepted = decision.runtime, decision.requests[i]
    record, request = accepted.record, accepted.request
    candidate, rules, ml = decision.candidates[i], decision.rules[i], decision.asked.answers[i]
    served = ml if candidate and ml is not None else rules
    fallback = decision.asked.failure if candidate and ml is None else None
    action = runtime.action(served.confidence)
    # Old producers write no time (-1), and a clock may run ahead: neither is a latency of years or below zero.
    total_ms = max(0.0, round(shared.now_ms - record.timestamp, 3)) if record.timestamp > 0 else 0.0
    outcome = Outcome(
        decision_id=request.id,
        agent=request.agent,
        unit=request.unit,
        status="pending_approval" if shared.approval else "final",
        revision=0 if shared.approval else 1,
        success=True,
        source="deterministic" if served is rules else "ml",
        arm="candidate" if candidate else "control",
        prediction=served.prediction,
        confidence=served.confidence,
        reason=served.reason,
        action=action,
        needs_review=action == "escalate",
        fallback_reason=fallback,
        answers=Answers(rules=rules, ml=ml),
        flag=shared.flag,
        versions=shared.versions,
        features=runtime.named(decision.rows[i]),
        input=request.input,
        requested_at=request.requested_at,
        decided_at=shared.decided_at,
        timings=Timings(
            total_ms=total_ms,
            features_ms=shared.features_ms,
            model_ms=shared.model_ms if candidate else None,
        ),
        place=Place(topic=record.topic, partition=record.partition, offset=record.offset),
        content_hash=accepted.content_hash,
        history=decision.histories[i] if decision.histories else UNSET,
    )
    headers = carry(record.headers)
    value = _encode(outcome)
    if len(value) > OUTCOME_BYTES_MAX:
        expected = f"an outcome of at most {OUTCOME_BYTES_MAX} bytes, not {len(value)}"
        decided.too_large.append(
            Rejected(record, InvalidMessage("too_large_outcome", "input", expected), request.id)
        )
        return
    decided.outcomes.append((request.id.encode(), value, headers))
    if action == "escalate" or shared.approval:
        decided.escalations.append((request.id.encode(), _escalation(outcome, shared), headers))
    if ml is None and not candidate:
        decided.unasked.append(i)
    decided.pending += shared.approval
    _sum(decided.arms[outcome.arm], outcome, total_ms)


def _escalation(outcome: Outcome, shared: _Shared) -> bytes:
    return encode(
        Escalation(
            decision_id=outcome.decision_id,
            agent=outcome.agent,
            unit=outcome.unit,
            status=outcome.status,
            prediction=outcome.prediction,
            confidence=outcome.confidence,
            reason=outcome.reason,
            why="approval_required" if shared.approval else "low_confidence",
            escalated_at=shared.now,
            place=outcome.place,
        )
    )


def _sum(arm: ArmSummary, outcome: Outcome, total_ms: float) -> None:
    arm.decisions += 1
    arm.confidence_sum += outcome.confidence
    arm.latency_sum_ms += total_ms
    at = bucket(total_ms)
    arm.latency[at] = arm.latency.get(at, 0) + 1
    if outcome.source == "ml":
        arm.by_ml += 1
    if outcome.fallback_reason:
        arm.fallbacks[outcome.fallback_reason] = arm.fallbacks.get(outcome.fallback_reason, 0) + 1
    if outcome.action == "validate":
        arm.validations += 1
    elif outcome.action == "escalate":
        arm.escalations += 1
    if outcome.answers.ml is not None:
        arm.both_answered += 1
        arm.agreements += outcome.answers.ml.prediction == outcome.answers.rules.prediction


def shadows(
    runtime: Runtime, requests: Sequence[Accepted], answers: Sequence[Answer], now: datetime
) -> list[Message]:
    """Messages of answers that were not served."""
    return [
        (
            each.request.id.encode(),
            encode(
                ShadowAnswer(
                    decision_id=each.request.id,
                    agent=runtime.agent.name,
                    answer=answer,
                    answered_at=now,
                    place=Place(
                        topic=each.record.topic, partition=each.record.partition, offset=each.record.offset
                    ),
                )
            ),
            carry(each.record.headers),
        )
        for each, answer in zip(requests, answers, strict=True)
    ]


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
