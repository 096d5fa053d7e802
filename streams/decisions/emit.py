"""Answers to messages: outcomes, escalations, shadow answers, and the sums over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, TypeAlias

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
from pointsman.streams.decisions.wire import Moment, OutcomeWriter, Waited
from pointsman.streams.output import Message

OUTCOME_BYTES_MAX: Final = 850_000
"""Fits a batch with its key and headers. The largest request leaves 50,000 bytes for what an agent says of it."""

_NO_HEADERS: Final[list[tuple[str, bytes]]] = []
"""Of all messages without; nobody adds to it."""
_MS: Final = attrgetter("ms")
_BUCKET: Final = attrgetter("bucket")


@dataclass(slots=True)
class Decided:
    """What a part of a batch leads to, whatever agents it is for; messages in the order of the requests."""

    outcomes: list[Message] = field(default_factory=list)
    escalations: list[Message] = field(default_factory=list)
    pending: int = 0
    """Outcomes that wait for a person and are not terminal."""
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
    reached: int | None = None
    """The feedback that an agent with state had learned; None for one without."""


_Kind: TypeAlias = tuple[bool, str | None, Action, bool | None]
"""What is counted of a decision: whether the model served it, why it did not, the action, and whether both arms' answers
agree (None where the model's is not known). Many decisions, few kinds."""
_Counted: TypeAlias = tuple[_Kind, float, Waited]
"""With the confidence of what was served."""


class Emitter:
    """Writes the outcomes and escalations of a decision, one request at a time."""

    __slots__ = ("_decided", "_failure", "_known", "_sums", "_writer", "decision", "unasked")

    def __init__(self, decision: Decision, decided: Decided) -> None:
        """``decided``: where the messages go; other agents' requests of the same part of a batch share it."""
        waited_ms = decision.asked.waited_ms
        self.decision = decision
        self.unasked: list[int] = []
        """Places of the requests that the model may be asked for as a shadow."""
        self._decided = decided
        self._failure = decision.asked.failure
        self._known = decision.runtime.known
        self._sums: tuple[list[_Counted], list[_Counted]] = ([], [])
        """Of the control, of the candidate: summed up at the end of a batch, cheaper than a decision at a time."""
        self._writer = OutcomeWriter(
            decision.runtime,
            decision.flag,
            features_ms=round(decision.features_ms / max(1, len(decision.requests)), 4),
            model_ms=None if waited_ms is None else round(waited_ms, 3),
            reached=decision.reached,
        )

    def write(self, i: int, moment: Moment) -> None:
        """The outcome of request ``i``."""
        decision, decided, writer = self.decision, self._decided, self._writer
        accepted, candidate = decision.requests[i], decision.candidates[i]
        rules, ml = decision.rules[i], decision.asked.answers[i]
        # A method is called only for what is not known yet: a call takes longer than to look.
        known = self._known.get(id(rules)) or self._known.remember(rules)
        if not candidate:
            answer, by_ml, fallback = rules, False, None
            served = known.control or writer.by_control(known)
        elif ml is not None:
            answer, by_ml, fallback = ml, True, None
            served = writer.by_model(ml)
        else:
            answer, by_ml, fallback = rules, False, self._failure
            served = writer.by_candidate(known, fallback)
        timestamp = accepted.record.timestamp
        waited = moment.known.get(timestamp) or moment.waited(timestamp)
        histories = decision.histories
        history = UNSET if histories is None else histories[i]
        value = writer.write(
            accepted, decision.rows[i], candidate, known, ml, served, moment, waited, history
        )
        if len(value) > OUTCOME_BYTES_MAX:
            decided.too_large.append(_too_large(accepted, len(value)))
            return
        headers = carry(received) if (received := accepted.record.headers) else _NO_HEADERS
        request_id = accepted.request.id.encode()
        decided.outcomes.append((request_id, value, headers))
        if writer.approval:
            decided.pending += 1
        if served.action == "escalate" or writer.approval:
            escalation = _escalation(decision, accepted, answer, moment.now)
            decided.escalations.append((request_id, escalation, headers))
        if ml is None and not candidate:
            self.unasked.append(i)
        agree = None if ml is None else ml.prediction == rules.prediction
        self._sums[candidate].append(((by_ml, fallback, served.action, agree), answer.confidence, waited))

    def arms(self) -> dict[str, ArmSummary]:
        """The sums of what was written, by arm; without one that decided nothing."""
        agent = self.decision.runtime.agent.name
        arms: tuple[Arm, Arm] = ("control", "candidate")
        return {
            arm: _sums(agent, arm, counted) for arm, counted in zip(arms, self._sums, strict=True) if counted
        }


def in_order(emitters: Sequence[Emitter]) -> Iterator[tuple[Emitter, int]]:
    """Every request of the emitters, as they lie in their topic.

    So what was read and decoded together is written together. Fifty agents one after the other would go through a batch
    fifty times, each time for every fiftieth request, whose bytes are in no cache of the processor by then.
    """
    own = [emitter for emitter in emitters for _ in emitter.decision.requests]
    places = [i for emitter in emitters for i in range(len(emitter.decision.requests))]
    if len({id(each.decision.runtime) for each in emitters}) > 1:  # one agent's slices lie in order
        offsets = [each.record.offset for emitter in emitters for each in emitter.decision.requests]
        order = sorted(range(len(own)), key=offsets.__getitem__)
        own, places = [own[at] for at in order], [places[at] for at in order]
    return zip(own, places, strict=True)


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


def _sums(agent: str, arm: Arm, counted: Sequence[_Counted]) -> ArmSummary:
    kinds, confidences, waited = zip(*counted, strict=True)
    sums = ArmSummary(
        agent=agent,
        arm=arm,
        decisions=len(kinds),
        confidence_sum=sum(confidences),
        latency_sum_ms=sum(map(_MS, waited)),
        latency=dict(Counter(map(_BUCKET, waited))),
    )
    for (ml, fallback, action, agree), count in Counter(kinds).items():
        if ml:
            sums.by_ml += count
        if fallback:
            sums.fallbacks[fallback] = sums.fallbacks.get(fallback, 0) + count
        if action == "validate":
            sums.validations += count
        elif action == "escalate":
            sums.escalations += count
        if agree is not None:
            sums.both_answered += count
            sums.agreements += count if agree else 0
    return sums


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
