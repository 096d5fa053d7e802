"""Messages survive their encoding, unknown fields do no harm, and an error names its field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas.codec import Decoder, encode, too_deep
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.feedback import KINDS, Feedback, kinds
from pointsman.schemas.outcome import (
    Answer,
    Answers,
    Escalation,
    FlagState,
    Place,
    ShadowAnswer,
    Timings,
    Versions,
)
from pointsman.schemas.request import DecisionRequest
from pointsman.schemas.summary import ArmSummary, Ledger, Summary
from tests.builders import feedback, outcome, request

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
counts = st.integers(0, 2**53)
reals = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
objects = st.dictionaries(texts, st.none() | st.booleans() | reals | texts, max_size=3).map(
    lambda value: msgspec.Raw(json.dumps(value).encode())
)
agents = st.from_regex(r"\A[a-z][a-z0-9-]{0,62}\Z")
answers = st.builds(
    Answer,
    decider=texts,
    prediction=texts,
    score=reals,
    confidence=reals,
    reason=st.text(st.characters(codec="utf-8")),
)
places = st.builds(Place, topic=texts, partition=st.integers(0, 2**31 - 1), offset=st.integers(0, 2**63 - 1))
outcomes = st.builds(
    outcome,
    st.just(0),
    decision_id=texts,
    unit=st.none() | texts,
    status=st.sampled_from(["final", "pending_approval"]),
    revision=st.integers(0, 1),
    source=st.sampled_from(["ml", "deterministic"]),
    arm=st.sampled_from(["candidate", "control"]),
    action=st.sampled_from(["act", "validate", "escalate"]),
    answers=st.builds(Answers, rules=answers, ml=st.none() | answers),
    flag=st.builds(FlagState, name=texts, percentage=reals, version=counts),
    versions=st.builds(Versions, pointsman=texts, features=texts, rules=texts, ml=st.none() | texts),
    features=objects,
    input=objects,
    requested_at=st.none() | moments,
    decided_at=moments,
    timings=st.builds(Timings, total_ms=reals, features_ms=reals, model_ms=st.none() | reals),
    place=places,
    fallback_reason=st.none() | texts,
)
ledgers = st.builds(
    Ledger,
    topic=texts,
    partition=st.integers(0, 2**31 - 1),
    start=counts,
    end=counts,
    requests=counts,
    outcomes=counts,
    pending=counts,
)
arms = st.builds(
    ArmSummary,
    agent=agents,
    arm=st.sampled_from(["candidate", "control"]),
    decisions=counts,
    fallbacks=st.dictionaries(texts, counts, max_size=3),
    latency=st.dictionaries(st.integers(0, 3_000), counts, max_size=5),
    latency_sum_ms=st.floats(-1e18, 1e18),
)
long = st.none() | st.text(st.characters(codec="utf-8"), max_size=50)
amounts = st.none() | st.floats(0, 1e12)
messages = st.one_of(
    st.builds(
        DecisionRequest,
        id=texts,
        agent=agents,
        input=objects,
        unit=st.none() | texts,
        requested_at=st.none() | moments,
        reply_to=st.none() | st.integers(0, 2**31 - 1),
        schema_version=st.integers(1, 100),
    ),
    outcomes,
    st.builds(
        ShadowAnswer, decision_id=texts, agent=agents, answer=answers, answered_at=moments, place=places
    ),
    st.builds(
        Escalation,
        decision_id=texts,
        agent=agents,
        unit=st.none() | texts,
        status=st.sampled_from(["final", "pending_approval"]),
        prediction=texts,
        confidence=reals,
        reason=texts,
        why=st.sampled_from(["low_confidence", "approval_required"]),
        escalated_at=moments,
        place=places,
    ),
    st.builds(
        Feedback,
        id=texts,
        decision_id=texts,
        agent=agents,
        observed_at=moments,
        unit=st.none() | texts,
        label=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=100),
        rating=st.none() | st.floats(1, 5),
        comment=long,
        signal=st.none() | st.sampled_from(["accepted", "edited", "reverted", "ignored"]),
        task_completed_at=st.none() | moments,
        task_duration_s=amounts,
        correction=long,
        complaint=long,
        critical_error=long,
        safety_violation=long,
        tokens=st.none() | st.integers(0, 10**12),
        cost=amounts,
    ),
    st.builds(
        Flag,
        name=st.from_regex(r"\A[a-z][a-z0-9._-]{0,99}\Z"),
        percentage=st.floats(0, 100),
        version=st.integers(1, 2**53),
        seed=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
        changed_at=moments,
        changed_by=texts,
    ),
    st.builds(Summary, at=moments, lane=texts, arms=st.lists(arms, max_size=3), ledger=st.none() | ledgers),
)


def plain(message: Any) -> Any:
    """A message with its raw parts parsed, for comparison."""
    return msgspec.json.decode(encode(message))


@given(messages)
def test_every_contract_decodes_to_what_was_encoded(message: Any) -> None:
    decoded = Decoder(type(message)).decode(encode(message))
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if not isinstance(value, msgspec.Raw):
            assert getattr(decoded, name) == value, name
    assert plain(decoded) == plain(message)


@given(messages, texts.map(lambda name: f"_{name}"), st.none() | reals | texts | st.lists(texts, max_size=2))
def test_fields_that_are_not_known_are_ignored(message: Any, name: str, value: object) -> None:
    more = msgspec.json.encode({**plain(message), name: value})
    assert plain(Decoder(type(message)).decode(more)) == plain(message)


@given(messages, st.binary(max_size=300))
def test_no_bytes_make_a_decoder_raise_anything_but_invalid_message(message: Any, value: bytes) -> None:
    encoded = encode(message)
    for candidate in (value, encoded[: len(value)], encoded[:5] + value + encoded[5:]):
        try:
            Decoder(type(message)).decode(candidate)
        except InvalidMessage as error:
            assert error.field and error.expected  # noqa: PT017 - whether it raises is open


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"id": None}, "wrong_type", "id"),
        ({"id": 5}, "wrong_type", "id"),
        ({"id": ""}, "wrong_type", "id"),
        ({"id": "x" * 201}, "wrong_type", "id"),
        ({"unit": ["u"]}, "wrong_type", "unit"),
        ({"requested_at": "2026-01-01T00:00:00"}, "wrong_type", "requested_at"),
        ({"requested_at": "yesterday"}, "wrong_type", "requested_at"),
        ({"reply_to": -1}, "wrong_type", "reply_to"),
        ({"reply_to": 2**31}, "wrong_type", "reply_to"),
        ({"schema_version": 0}, "wrong_type", "schema_version"),
    ],
)
def test_an_error_names_the_field_of_a_request(changes: dict[str, object], reason: str, field: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        Decoder(DecisionRequest).decode(msgspec.json.encode(request(**changes)))
    assert (raised.value.reason, raised.value.field) == (reason, field)


@pytest.mark.parametrize("name", ["id", "agent", "input"])
def test_an_error_names_the_field_that_is_missing(name: str) -> None:
    value = {key: value for key, value in request().items() if key != name}
    with pytest.raises(InvalidMessage) as raised:
        Decoder(DecisionRequest).decode(msgspec.json.encode(value))
    assert (raised.value.reason, raised.value.field) == ("missing_field", name)


class Inner(msgspec.Struct):
    n: int


class Outer(msgspec.Struct):
    items: list[Inner]
    by_number: dict[int, int] = {}


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        (b"[]", "wrong_type", "input"),
        (b'{"items": 1}', "wrong_type", "input.items"),
        (b'{"items": [{"n": 1}, {"n": "x"}]}', "wrong_type", "input.items[1].n"),
        (b'{"items": [{"n": 1}, {}]}', "missing_field", "input.items[1].n"),
        (b'{"items": [{"n": 1}, 2]}', "wrong_type", "input.items[1]"),
        (b'{"items": [], "by_number": {"x": 1}}', "wrong_type", "input.by_number"),
        (b'{"items": [], "by_number": {"1": "y"}}', "wrong_type", "input.by_number[...]"),
    ],
)
def test_an_error_gives_the_whole_path_from_the_message_down(value: bytes, reason: str, field: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        Decoder(Outer, "input").decode(value)
    assert (raised.value.reason, raised.value.field) == (reason, field)


def depth(value: object) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(depth, children), default=0)


brackets = st.recursive(
    st.text('[]{}"\\,:a', max_size=6) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=4)
    ),
    max_leaves=40,
)


@given(brackets, st.integers(0, 8))
def test_depth_is_counted_as_a_parser_would(value: object, limit: int) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1), json.dumps(value, separators=(",", ":"))):
        assert too_deep(text.encode(), limit) is (depth(value) > limit)


@pytest.mark.parametrize(
    "ways",
    [[("[", "]")], [('{"a":', "}")], [("[", "]"), ('{"a":', "}")], [('{"\\"[":', "}")]],
    ids=["arrays", "objects", "in turn", "quotes"],
)
def test_the_limit_of_depth_is_exact_for_every_way_to_nest(ways: list[tuple[str, str]]) -> None:
    def nested(levels: int) -> bytes:
        text = "1"
        for level in range(levels):
            opening, closing = ways[level % len(ways)]
            text = opening + text + closing
        return text.encode()

    assert not too_deep(nested(32))
    assert too_deep(nested(33))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_a_list_of_objects_and_what_looks_like_one_hide_no_depth(separators: tuple[str, str]) -> None:
    def beside(levels: int) -> bytes:
        inner: object = [{"a": {"b": 1}}] * 20
        for level in range(levels - 3):
            inner = [inner, "},{" * 40, "}, {" * 40] if level % 2 else {"a": inner, "b": "},{", "c": [{}, {}]}
        return json.dumps(inner, separators=separators).encode()

    assert not too_deep(beside(32))
    assert too_deep(beside(33))


@pytest.mark.timeout(20)
def test_a_string_without_an_end_costs_no_more_than_any_other_text() -> None:
    hostile = b"[" + b"[]," * 40 + b'"' + b'\\"' * 400_000
    assert not too_deep(hostile)


def test_kinds_are_what_an_event_carries_beside_its_envelope() -> None:
    event = feedback(rating=4.0, comment="good", unit="u")
    assert kinds(event) == {"rating": 4.0, "comment": "good"}
    assert set(KINDS).isdisjoint(
        {"id", "decision_id", "agent", "observed_at", "unit", "sender", "schema_version"}
    )
