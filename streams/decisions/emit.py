"""Answers to messages: outcomes, escalations, shadow answers, and the sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from pointsman.models.decider import Row
from pointsman.schemas.codec import encode
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.outcome import Action, Answer, Arm, Escalation, History, Place, ShadowAnswer
from pointsman.schemas.retry import Assigned
from pointsman.schemas.summary import ArmSummary
from pointsman.streams.decisions.ask import Asked
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.trace import carry
from pointsman.streams.decisions.validate import Accepted, Rejected
from pointsman.streams.decisions.wire import OutcomeWriter, Waited
from pointsman.streams.output import Message

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


class _Kind(NamedTuple):
    """What is counted of a decision: many decisions, few kinds."""

    candidate: bool
    ml: bool
    fallback: str | None
    action: Action
    agree: bool | None
    """Whether both arms' answers agree; None where the model's is not known."""


def emit(decision: Decision, now: datetime) -> Decided:
    """Outcomes and escalations of a decision, made at ``now`` (UTC)."""
    decided = Decided()
    writer = _writer(decision, now)
    failure = decision.asked.failure
    sums = _Sums()
    histories = decision.histories or repeat(UNSET)
    each = zip(
        decision.requests,
        decision.rows,
        decision.candidates,
        decision.rules,
        decision.asked.answers,
        histories,
        strict=False,  # the last has no end; the others are parallel, as `Decision` says
    )
    for i, (accepted, row, candidate, rules, ml, history) in enumerate(each):
        known = writer.known(rules)
        if candidate and ml is not None:
            answer, by_ml, fallback = ml, True, None
            served = writer.serve(ml, known, ml=True, candidate=True)
        else:
            answer, by_ml, fallback = rules, False, failure if candidate else None
            served = writer.served(known, candidate=candidate, fallback=fallback)
        waited = writer.waited(accepted.record.timestamp)
        value = writer.write(
            accepted, row, candidate=candidate, ml=ml, served=served, waited=waited, history=history
        )
        if len(value) > OUTCOME_BYTES_MAX:
            decided.too_large.append(_too_large(accepted, len(value)))
            continue
        headers = carry(accepted.record.headers)
        request_id = accepted.request.id.encode()
        decided.outcomes.append((request_id, value, headers))
        if served.action == "escalate" or writer.approval:
            escalation = _escalation(decision, accepted, answer, now)
            decided.escalations.append((request_id, escalation, headers))
        if ml is None and not candidate:
            decided.unasked.append(i)
        agree = None if ml is None else ml.prediction == rules.prediction
        sums.add((candidate, by_ml, fallback, served.action, agree), answer.confidence, waited)
    decided.pending = len(decided.outcomes) if writer.approval else 0
    decided.arms = sums.arms(decision.runtime.agent.name)
    return decided


def _writer(decision: Decision, now: datetime) -> OutcomeWriter:
    waited_ms = decision.asked.waited_ms
    return OutcomeWriter(
        decision.runtime,
        decision.flag,
        now=now,
        features_ms=round(decision.features_ms / max(1, len(decision.requests)), 4),
        model_ms=None if waited_ms is None else round(waited_ms, 3),
    )


def _too_large(accepted: Accepted, size: int) -> Rejected:
    expected = f"an outcome of at most {OUTCOME_BYTES_MAX} bytes, not {size}"
    error = InvalidMessage("too_large_outcome", "input", expected)
    return Rejected(accepted.record, error, accepted.request.id)


def _escalation(decision: Decision, accepted: Accepted, answer: Answer, now: datetime) -> bytes:
    agent, request, record = decision.runtime.agent, accepted.request, accepted.record
    approval = agent.policy == "APPROVAL_REQUIRED"
    return encode(
        Escalation(
            decision_id=request.id,
            agent=agent.name,
            unit=request.unit,
            status="pending_approval" if approval else "final",
            prediction=answer.prediction,
            confidence=answer.confidence,
            reason=answer.reason,
            why="approval_required" if approval else "low_confidence",
            escalated_at=now,
            place=Place(topic=record.topic, partition=record.partition, offset=record.offset),
        )
    )


class _Sums:
    """Counts by kind while a batch is written, sums by arm at its end: cheaper than sums a decision."""

    def __init__(self) -> None:
        self._confidences: dict[tuple[bool, bool, str | None, Action, bool | None], list[float]] = {}
        self._waited: dict[tuple[bool, Waited], int] = {}

    def add(
        self, kind: tuple[bool, bool, str | None, Action, bool | None], confidence: float, waited: Waited
    ) -> None:
        """Count a decision; ``kind`` as in `_Kind`, but plain, because making it is most of the cost."""
        known = self._confidences.get(kind)
        if known is None:
            known = self._confidences[kind] = []
        known.append(confidence)
        at = (kind[0], waited)
        self._waited[at] = self._waited.get(at, 0) + 1

    def arms(self, agent: str) -> dict[str, ArmSummary]:
        """The sums by arm, without an arm that decided nothing."""
        arms: dict[str, ArmSummary] = {}
        for plain, confidences in self._confidences.items():
            kind = _Kind(*plain)
            _count(_arm(arms, agent, candidate=kind.candidate), kind, confidences)
        for (candidate, waited), count in self._waited.items():
            arm = _arm(arms, agent, candidate=candidate)
            arm.latency_sum_ms += waited.ms * count
            arm.latency[waited.bucket] = arm.latency.get(waited.bucket, 0) + count
        return arms


def _arm(arms: dict[str, ArmSummary], agent: str, *, candidate: bool) -> ArmSummary:
    name: Arm = "candidate" if candidate else "control"
    if name not in arms:
        arms[name] = ArmSummary(agent=agent, arm=name)
    return arms[name]


def _count(arm: ArmSummary, kind: _Kind, confidences: list[float]) -> None:
    count = len(confidences)
    arm.decisions += count
    arm.confidence_sum += sum(confidences)
    if kind.ml:
        arm.by_ml += count
    if kind.fallback:
        arm.fallbacks[kind.fallback] = arm.fallbacks.get(kind.fallback, 0) + count
    if kind.action == "validate":
        arm.validations += count
    elif kind.action == "escalate":
        arm.escalations += count
    if kind.agree is not None:
        arm.both_answered += count
        arm.agreements += count if kind.agree else 0


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
