"""Outcomes are put together from parts: byte for byte what the contract encodes to, and summed as one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from pointsman.schemas.control import Flag
from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import (
    Answer,
    Answers,
    Cause,
    Escalation,
    FlagState,
    History,
    Outcome,
    Place,
    Timings,
)
from pointsman.schemas.request import DecisionRequest
from pointsman.schemas.summary import ArmSummary
from pointsman.streams.decisions.ask import Asked
from pointsman.streams.decisions.emit import Decided, Decision, Emitter, in_order
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.validate import Accepted
from pointsman.streams.decisions.wire import Moment
from tests.builders import AT_MS, Rules, Small, agent, record, runtime

NOW = datetime.fromtimestamp(AT_MS / 1000 + 1.25, UTC)
RUNTIMES = [
    runtime(),
    runtime(model=False),
    runtime(agent('says-\N{GREEK SMALL LETTER PI}"', policy="APPROVAL_REQUIRED")),
]

texts = st.text(st.characters(codec="utf-8"), max_size=20)
probabilities = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
answers = st.builds(
    Answer, decider=texts, prediction=st.sampled_from(["no", "yes"]), score=probabilities,
    confidence=probabilities, reason=st.sampled_from(["below", "above"]) | texts,
)  # fmt: skip
moments = st.integers(-(2**30), 2**32).map(lambda seconds: datetime.fromtimestamp(seconds + 0.5, UTC))
numbers = st.integers(0, 10**9) | st.floats(-1e9, 1e9)
requests = st.builds(
    DecisionRequest,
    id=texts.filter(bool),
    agent=st.just("small"),
    input=st.dictionaries(texts, texts, max_size=3).map(
        lambda value: msgspec.Raw(msgspec.json.encode(value))
    ),
    unit=st.none() | texts.filter(bool),
    requested_at=st.none() | moments,
)
flags = st.none() | st.builds(
    Flag, name=texts, percentage=st.floats(0, 100), version=st.integers(0, 2**53), seed=texts,
    changed_at=moments, changed_by=texts,
)  # fmt: skip
histories = st.just(UNSET) | st.builds(
    History,
    attempts=st.integers(1, 4),
    first_error=st.none() | st.builds(Cause, reason=texts, field=texts, expected=texts),
    redriven=st.integers(0, 3),
)
places = st.tuples(
    st.sampled_from(["decision-requests", "other-\N{SNOWMAN}"]), st.integers(0, 64), st.integers(0, 2**62)
)


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    """A part of a batch with anything in it, some answers shared between requests and some not."""
    shared = draw(st.lists(answers, min_size=1, max_size=3))
    one = st.sampled_from(shared) | answers
    runtime_: Runtime = draw(st.sampled_from(RUNTIMES))
    parts = draw(
        st.lists(
            st.tuples(
                requests, places, one, st.none() | one, st.booleans(), numbers, st.integers(-2, AT_MS * 2)
            ),
            min_size=1,
            max_size=8,
        )
    )
    accepted = [
        Accepted(
            record(b"{}", topic=topic, partition=partition, offset=offset, timestamp=timestamp),
            request,
            Small(),
            draw(st.integers(0, 2**64 - 1)),
        )
        for request, (topic, partition, offset), _, _, _, _, timestamp in parts
    ]
    return Decision(
        runtime=runtime_,
        requests=accepted,
        rows=[(number, 2.5) for *_, number, _ in parts],
        candidates=[candidate for *_, candidate, _, _ in parts],
        rules=[rules for _, _, rules, *_ in parts],
        asked=Asked(
            [ml for _, _, _, ml, *_ in parts],
            failure=draw(st.none() | texts.filter(bool)),
            waited_ms=draw(st.none() | st.floats(0, 1e4)),
        ),
        flag=draw(flags),
        features_ms=draw(st.floats(0, 1e3)),
        histories=draw(st.none() | st.lists(histories, min_size=len(parts), max_size=len(parts))),
    )


def emit(*decisions: Decision, now: datetime = NOW) -> tuple[Decided, list[Emitter]]:
    """All written in order."""
    decided = Decided()
    emitters = [Emitter(each, decided) for each in decisions]
    moment = Moment(now)
    for emitter, i in in_order(emitters):
        emitter.write(i, moment)
    return decided, emitters


def expected(decision: Decision, i: int) -> Outcome:
    """The outcome as the contract has it, each field by itself."""
    agent_, accepted, asked = decision.runtime.agent, decision.requests[i], decision.asked
    candidate, rules, ml = decision.candidates[i], decision.rules[i], asked.answers[i]
    by_ml = candidate and ml is not None
    served = ml if ml is not None and candidate else rules
    action = decision.runtime.action(served.confidence)
    approval = agent_.policy == "APPROVAL_REQUIRED"
    at, flag = accepted.record.timestamp, decision.flag
    raw: Any = msgspec.Raw
    return Outcome(
        decision_id=accepted.request.id,
        agent=agent_.name,
        unit=accepted.request.unit,
        status="pending_approval" if approval else "final",
        revision=0 if approval else 1,
        success=True,
        source="ml" if by_ml else "deterministic",
        arm="candidate" if candidate else "control",
        prediction=served.prediction,
        confidence=served.confidence,
        reason=served.reason,
        action=action,
        needs_review=action == "escalate",
        fallback_reason=asked.failure if candidate and ml is None else None,
        answers=Answers(rules=rules, ml=ml),
        flag=FlagState(
            name=agent_.flag, percentage=flag.percentage if flag else 0.0, version=flag.version if flag else 0
        ),
        versions=decision.runtime.versions,
        features=raw(msgspec.json.encode(dict(zip(agent_.feature_names, decision.rows[i], strict=True)))),
        input=accepted.request.input,
        requested_at=accepted.request.requested_at,
        decided_at=NOW,
        timings=Timings(
            total_ms=max(0.0, round(NOW.timestamp() * 1000 - at, 3)) if at > 0 else 0.0,
            features_ms=round(decision.features_ms / len(decision.requests), 4),
            model_ms=round(asked.waited_ms, 3) if candidate and asked.waited_ms is not None else None,
        ),
        place=Place(
            topic=accepted.record.topic, partition=accepted.record.partition, offset=accepted.record.offset
        ),
        content_hash=f"{accepted.content_hash:016x}",
        history=decision.histories[i] if decision.histories else UNSET,
    )


@given(decisions())
def test_an_outcome_is_what_its_contract_encodes_to(decision: Decision) -> None:
    written = [value for _, value, _ in emit(decision)[0].outcomes]
    assert written == [msgspec.json.encode(expected(decision, i)) for i in range(len(decision.requests))]


@given(decisions(), decisions())
def test_agents_in_one_part_get_their_own_outcomes_in_the_order_of_the_requests(
    one: Decision, other: Decision
) -> None:
    if other.runtime is one.runtime:
        other.runtime = RUNTIMES[(RUNTIMES.index(one.runtime) + 1) % len(RUNTIMES)]
    decided, (first, second) = emit(one, other)
    wanted = [expected(of, i) for of in (one, other) for i in range(len(of.requests))]
    wanted.sort(key=lambda outcome: outcome.place.offset)
    assert [value for _, value, _ in decided.outcomes] == list(map(msgspec.json.encode, wanted))
    for emitter in (first, second):
        alone, (by_itself,) = emit(emitter.decision)
        assert {name: arm.latency for name, arm in emitter.arms().items()} == {
            name: arm.latency for name, arm in by_itself.arms().items()
        }
        assert sorted(emitter.unasked) == sorted(by_itself.unasked)
        decided.pending -= alone.pending
    assert decided.pending == 0


@given(decisions())
def test_an_escalation_is_what_its_contract_encodes_to(decision: Decision) -> None:
    wanted = []
    for i in range(len(decision.requests)):
        outcome = expected(decision, i)
        approval = outcome.status == "pending_approval"
        if outcome.action == "escalate" or approval:
            wanted.append(
                Escalation(
                    decision_id=outcome.decision_id,
                    agent=outcome.agent,
                    unit=outcome.unit,
                    status=outcome.status,
                    prediction=outcome.prediction,
                    confidence=outcome.confidence,
                    reason=outcome.reason,
                    why="approval_required" if approval else "low_confidence",
                    escalated_at=NOW,
                    place=outcome.place,
                )
            )
    written = emit(decision)[0].escalations
    assert [value for _, value, _ in written] == list(map(msgspec.json.encode, wanted))
    assert [key for key, _, _ in written] == [each.decision_id.encode() for each in wanted]


@given(decisions())
def test_the_sums_of_a_batch_are_those_of_its_outcomes(decision: Decision) -> None:
    decided, (emitter,) = emit(decision)
    arms = emitter.arms()
    one_by_one: dict[str, ArmSummary] = {}
    for i in range(len(decision.requests)):
        add(one_by_one, expected(decision, i))
    assert arms.keys() == one_by_one.keys()
    for name, arm in arms.items():
        other = one_by_one[name]
        for field in arm.__struct_fields__:
            mine, its = getattr(arm, field), getattr(other, field)
            assert mine == its or abs(mine - its) <= 1e-9 * max(1.0, abs(its)), field
    approval = decision.runtime.agent.policy == "APPROVAL_REQUIRED"
    assert decided.pending == (len(decision.requests) if approval else 0)


def add(arms: dict[str, ArmSummary], outcome: Outcome) -> None:
    arm = arms.setdefault(outcome.arm, ArmSummary(agent=outcome.agent, arm=outcome.arm))
    arm.decisions += 1
    arm.by_ml += outcome.source == "ml"
    if outcome.fallback_reason is not None:
        arm.fallbacks[outcome.fallback_reason] = arm.fallbacks.get(outcome.fallback_reason, 0) + 1
    arm.validations += outcome.action == "validate"
    arm.escalations += outcome.action == "escalate"
    arm.confidence_sum += outcome.confidence
    if outcome.answers.ml is not None:
        arm.both_answered += 1
        arm.agreements += outcome.answers.ml.prediction == outcome.answers.rules.prediction
    at = bucket(outcome.timings.total_ms)
    arm.latency[at] = arm.latency.get(at, 0) + 1
    arm.latency_sum_ms += outcome.timings.total_ms


def test_an_answer_made_anew_is_not_taken_for_one_that_has_gone() -> None:
    """Answers are known by identity, and an identity is used again once its object has gone."""

    class Fresh(Rules):
        pass

    decision_of = Decision(
        runtime=runtime(replace(agent(), rules=Fresh())),
        requests=[],
        rows=[],
        candidates=[],
        rules=[],
        asked=Asked([]),
        flag=None,
        features_ms=0.0,
    )
    for n in range(50):
        answer = Answer(decider="rules@1", prediction="yes", score=n / 100, confidence=0.9, reason=str(n))
        request = DecisionRequest(id=f"r{n}", agent="small", input=msgspec.Raw(b"{}"))
        decision_of.requests = [Accepted(record(b"{}"), request, Small(), 15)]
        decision_of.rows, decision_of.candidates = [(1.0, 2.0)], [False]
        decision_of.rules, decision_of.asked = [answer], Asked([None])
        ((_, value, _),) = emit(decision_of, now=NOW + timedelta(seconds=n))[0].outcomes
        assert msgspec.json.decode(value or b"", type=Outcome).reason == str(n)
        del answer


@given(decisions(), st.lists(st.none() | texts.filter(bool), min_size=2, max_size=4))
def test_the_same_answers_served_for_one_reason_after_another_say_their_own(
    decision: Decision, reasons: list[str | None]
) -> None:
    for reason in reasons:
        decision.asked.failure = reason
        written = [value for _, value, _ in emit(decision)[0].outcomes]
        assert written == [msgspec.json.encode(expected(decision, i)) for i in range(len(decision.requests))]


def test_the_models_answers_of_one_reason_say_their_own_prediction_and_what_their_confidence_allows() -> None:
    made = [("yes", 0.99), ("yes", 0.7), ("no", 0.99), ("yes", 0.01), ("no", 0.01), ("yes", 0.99)]
    model = [
        Answer(decider="ml@1", prediction=prediction, score=0.5, confidence=confidence, reason="why")
        for prediction, confidence in made
    ]
    decision = Decision(
        runtime=runtime(),
        requests=[
            Accepted(
                record(b"{}"),
                DecisionRequest(id=f"r{n}", agent="small", input=msgspec.Raw(b"{}")),
                Small(),
                n,
            )
            for n in range(len(made))
        ],
        rows=[(1.0, 2.0)] * len(made),
        candidates=[True] * len(made),
        rules=[Answer(decider="rules@1", prediction="no", score=0.1, confidence=0.8, reason="few")]
        * len(made),
        asked=Asked(list(model), waited_ms=1.0),
        flag=None,
        features_ms=0.0,
    )
    written = [value for _, value, _ in emit(decision)[0].outcomes]
    assert written == [msgspec.json.encode(expected(decision, i)) for i in range(len(made))]
