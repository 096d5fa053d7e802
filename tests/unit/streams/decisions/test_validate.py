"""Any bytes end as exactly one of accepted, rejected or duplicate; a rejection has a reason and names the field."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.schemas import dead_letter
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN
from pointsman.streams.decisions.duplicates import Answered, key
from pointsman.streams.decisions.validate import HEADER_BYTES_MAX, Checked, Rejected, Validator, letter
from pointsman.streams.output import Record
from pointsman.streams.record_batch import BATCH_BYTES
from tests.builders import agent, record, request, valid

LIMIT = 262_144
VALIDATOR = Validator({"small": agent(), "other": agent("other")}, LIMIT)


def check(*records: Record, answered: Answered | None = None) -> Checked:
    return VALIDATOR.check(list(records), answered or Answered(100, 60))


def sizes(checked: Checked) -> tuple[int, int, int]:
    accepted = sum(map(len, checked.accepted.values()))
    return accepted, len(checked.rejected), sum(checked.duplicates.values())


def body(input_: str = '{"p":0.9}', more: str = "") -> bytes:
    """A request's text, for what no encoder writes."""
    return f'{{"id":"r1","agent":"small","input":{input_}{more}}}'.encode()


DEEP = '{"tags":' + "[" * 40 + "]" * 40 + "}"
BAD: dict[str, tuple[bytes | None, bytes | None, str, str]] = {
    "no value": (None, b"r1", "empty_value", "value"),
    "no value, no key": (None, None, "empty_value", "value"),
    "empty value": (b"", b"r1", "empty_value", "value"),
    "not JSON": (b"update the docs, please", b"r1", "not_json", "value"),
    "half of a JSON": (body()[:20], b"r1", "not_json", "value"),
    "two JSONs": (body() + body(), b"r1", "not_json", "value"),
    "byte order mark": (b"\xef\xbb\xbf" + body(), b"r1", "not_json", "value"),
    "UTF-16": (body().decode().encode("utf-16"), b"r1", "not_json", "value"),
    "an array": (b"[]", b"r1", "wrong_type", "value"),
    "a number": (b"5", b"r1", "wrong_type", "value"),
    "null": (b"null", b"r1", "wrong_type", "value"),
    "1 MB": (b" " * 1_000_000 + body(), b"r1", "too_large", "value"),
    "one byte too many": (body() + b" " * (LIMIT + 1 - len(body())), b"r1", "too_large", "value"),
    "wrong type of id": (body().replace(b'"r1"', b"7"), b"r1", "wrong_type", "id"),
    "no id": (b'{"agent":"small","input":{}}', b"r1", "missing_field", "id"),
    "no agent": (b'{"id":"r1","input":{}}', b"r1", "missing_field", "agent"),
    "no input": (b'{"id":"r1","agent":"small"}', b"r1", "missing_field", "input"),
    "unknown agent": (body().replace(b"small", b"large"), b"r1", "unknown_agent", "agent"),
    "no name of an agent": (body().replace(b"small", b"Small One"), b"r1", "wrong_type", "agent"),
    "agent with a line end": (body().replace(b"small", b"small\\n"), b"r1", "wrong_type", "agent"),
    "input of another type": (body("[1]"), b"r1", "wrong_type", "input"),
    "wrong type in the input": (body('{"p":"high"}'), b"r1", "wrong_type", "input.p"),
    "out of range in the input": (body('{"p":1.5}'), b"r1", "wrong_type", "input.p"),
    "wrong type in a list": (body('{"tags":["a",1]}'), b"r1", "wrong_type", "input.tags[1]"),
    "huge integer": (body('{"count":' + "9" * 400 + "}"), b"r1", "wrong_type", "input.count"),
    "very huge integer": (body('{"count":' + "9" * 100_000 + "}"), b"r1", "wrong_type", "input.count"),
    "huge integer for a float": (body('{"p":' + "9" * 400 + "}"), b"r1", "wrong_type", "input.p"),
    "1e999": (body('{"p":1e999}'), b"r1", "wrong_type", "input.p"),
    "-1e999": (body('{"p":-1e999}'), b"r1", "wrong_type", "input.p"),
    "NaN": (body('{"p":NaN}'), b"r1", "not_json", "value"),
    "Infinity": (body('{"p":Infinity}'), b"r1", "not_json", "value"),
    "NaN in a field that is not known": (body('{"zz":NaN}'), b"r1", "not_json", "value"),
    "deep nesting": (body(DEEP), b"r1", "too_deep", "value"),
    "deep nesting in a field that is not known": (body(more=',"zz":' + DEEP), b"r1", "too_deep", "value"),
    "very deep nesting": (body("[" * 100_000), b"r1", "too_deep", "value"),
    "lone surrogate": (body('{"text":"\\ud800"}'), b"r1", "not_json", "value"),
    "lone surrogate in the id": (body().replace(b"r1", b"\\udc00"), b"r1", "not_json", "value"),
    "lone surrogate in a field that is not known": (body('{"zz":"\\ud800"}'), b"r1", "not_json", "value"),
    "invalid UTF-8": (body('{"text":"?"}').replace(b"?", b"\xff"), b"r1", "not_json", "value"),
    "invalid UTF-8 in a field that is not known": (body('{"zz":"?"}').replace(b"?", b"\xc3("), b"r1", "not_json", "value"),
    "encoded surrogate": (body('{"zz":"?"}').replace(b"?", b"\xed\xa0\x80"), b"r1", "not_json", "value"),
    "raw control character": (body('{"zz":"\n"}'), b"r1", "not_json", "value"),
    "null key": (body(), None, "bad_key", "key"),
    "empty key": (body(), b"", "bad_key", "key"),
    "wrong key": (body(), b"r2", "bad_key", "key"),
    "key of the id where there is a unit": (body(more=',"unit":"u"'), b"r1", "bad_key", "key"),
    "key in another encoding": (body().replace(b"r1", "é".encode()), "é".encode("latin-1"), "bad_key", "key"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_rejected_with_its_field_and_its_neighbours_go_on(name: str) -> None:
    value, key_, reason, field = BAD[name]
    checked = check(valid("a"), record(value, key=key_, offset=1), valid("b", offset=2))
    assert [each.request.id for each in checked.accepted["small"]] == ["a", "b"]
    (rejected,) = checked.rejected
    assert (rejected.error.reason, rejected.error.field) == (reason, field)
    assert rejected.error.expected
    assert reason in dead_letter.REASONS
    assert sizes(checked) == (2, 1, 0)


def test_a_request_may_nest_32_levels_and_no_more() -> None:
    for levels, is_accepted in ((32, True), (33, False)):
        inner = levels - 1  # the request itself is one
        checked = check(record(body(more=',"zz":' + "[" * inner + "]" * inner)))
        assert sizes(checked) == (is_accepted, not is_accepted, 0)
        assert [each.error.reason for each in checked.rejected] == ["too_deep"] * (not is_accepted)


@pytest.mark.parametrize(
    "value",
    [
        body(),
        body() + b" " * (LIMIT - len(body())),
        body(more=',"id":"r1"'),
        body('{"p":0.1,"p":0.9}'),
        body('{"text":"\\u0000"}'),
        body('{"zz":[1,2,{"a":null}],"p":0.5}'),
        body('{"text":"\\ud83d\\ude00 \U0001f600"}'),
        body('{"tags":["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["]}'),
        b"\n\t " + body(),
    ],
    ids=lambda value: str(value[:70]),
)
def test_unusual_but_valid_input_is_accepted(value: bytes) -> None:
    assert sizes(check(record(value))) == (1, 0, 0)


def test_of_equal_keys_the_last_counts_as_in_most_parsers() -> None:
    checked = check(record(b'{"id":"x","id":"r1","agent":"none","agent":"small","input":{"p":0.1,"p":0.9}}'))
    (accepted,) = checked.accepted["small"]
    assert (accepted.request.id, accepted.input.p) == ("r1", 0.9)


@given(st.binary(max_size=200), st.none() | st.binary(max_size=20))
@example(b"\\", None)
@example(b'"', b"")
def test_any_bytes_are_sorted_somewhere(value: bytes, key_: bytes | None) -> None:
    checked = check(record(value, key=key_))
    assert sum(sizes(checked)) == 1
    for rejected in checked.rejected:
        assert rejected.error.reason in dead_letter.REASONS
        assert rejected.error.field


@given(st.data())
def test_any_change_of_a_valid_request_is_sorted_somewhere_and_what_passes_is_json(
    data: st.DataObject,
) -> None:
    value = bytearray(
        msgspec.json.encode(request(input={"p": 0.5, "text": "é", "tags": ["a"], "zz": [1, "b"]}))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        value[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    checked = check(record(bytes(value)))
    assert sum(sizes(checked)) == 1
    for rejected in checked.rejected:
        assert rejected.error.reason in dead_letter.REASONS
        assert rejected.error.field
    for accepted in (each for some in checked.accepted.values() for each in some):
        json.loads(bytes(accepted.request.input))


@given(st.lists(st.sampled_from(["valid a", "valid b", "again a", "other a", *BAD]), max_size=30))
def test_a_batch_is_the_sum_of_its_records(names: list[str]) -> None:
    records = []
    for offset, name in enumerate(names):
        if name in BAD:
            value, key_, _, _ = BAD[name]
            records.append(record(value, key=key_, offset=offset))
        elif name == "other a":
            records.append(valid("a", offset, input={"p": 0.1}))
        else:
            records.append(valid(name[-1], offset))
    checked = check(*records)
    assert sum(sizes(checked)) == len(records)
    bad = sum(name in BAD for name in names)
    ids = [each.request.id for some in checked.accepted.values() for each in some]
    assert len(ids) == len(set(ids))
    assert {key(id_) for id_ in ids} == set(checked.answered)
    assert sum(each.error.reason != "id_reused" for each in checked.rejected) == bad


def test_a_repeat_within_the_batch_is_a_duplicate_and_other_content_a_reused_id() -> None:
    checked = check(valid("a"), valid("a", 1), valid("a", 2, input={"p": 0.1}))
    assert checked.duplicates == {"small": 1}
    (rejected,) = checked.rejected
    assert (rejected.error.reason, rejected.error.field, rejected.request_id) == ("id_reused", "id", "a")


def test_a_repeat_of_what_was_answered_before_is_a_duplicate_and_other_content_a_reused_id() -> None:
    answered = Answered(100, 60)
    answered.keep(check(valid("a")).answered, 1.0)
    assert check(valid("a", 5), answered=answered).duplicates == {"small": 1}
    (rejected,) = check(valid("a", 5, input={"p": 0.1}), answered=answered).rejected
    assert rejected.error.reason == "id_reused"


def test_an_id_that_was_rejected_stays_free() -> None:
    checked = check(valid("a", input={"p": 7}), valid("a", 1))
    assert sizes(checked) == (1, 1, 0)
    assert checked.accepted["small"][0].record.offset == 1


def test_requests_are_sorted_by_agent_in_order() -> None:
    checked = check(valid("a"), valid("b", 1, agent="other"), valid("c", 2))
    assert [each.request.id for each in checked.accepted["small"]] == ["a", "c"]
    assert [each.request.id for each in checked.accepted["other"]] == ["b"]


def test_the_key_is_the_unit_where_there_is_one() -> None:
    assert sizes(check(valid("a", unit="repo-ü"))) == (1, 0, 0)


# -- the letter ------------------------------------------------------------------------------------


def rejected(
    record_: Record, reason: str = "not_json", field: str = "value", expected: str = "JSON"
) -> Rejected:
    return Rejected(record_, InvalidMessage(reason, field, expected))


def headers_of(message: Any) -> dict[str, bytes]:
    assert len(dict(message[2])) == len(message[2]), "each header once"
    return dict(message[2])


def test_a_letter_holds_the_bytes_as_received_and_says_why_and_where() -> None:
    bad = record(b"\xff\x00nonsense", key=b"\xfe", offset=41, partition=3, headers=[("x", b"1")])
    key_, value, _ = message = letter(rejected(bad), LIMIT)
    assert (key_, value) == (b"\xfe", b"\xff\x00nonsense")
    assert headers_of(message) == {
        "reason": b"not_json",
        "field": b"value",
        "expected": b"JSON",
        "topic": b"decision-requests",
        "partition": b"3",
        "offset": b"41",
        "attempt": b"1",
        "x": b"1",
    }
    assert set(dead_letter.HEADERS) < set(headers_of(message))


def test_a_letter_of_too_many_bytes_holds_their_hash_length_and_place() -> None:
    large = b"x" * (LIMIT + 1)
    _, value, _ = letter(rejected(record(large, offset=7, partition=2)), LIMIT)
    assert value is not None
    assert json.loads(value) == {
        "sha256": sha256(large).hexdigest(),
        "bytes": LIMIT + 1,
        "topic": "decision-requests",
        "partition": 2,
        "offset": 7,
    }
    assert letter(rejected(record(large[:-1])), LIMIT)[1] == large[:-1]


@pytest.mark.parametrize(("key_", "value"), [(None, None), (None, b""), (None, b"x"), (b"", None)])
def test_a_letter_has_a_key_or_a_value(key_: bytes | None, value: bytes | None) -> None:
    message = letter(rejected(record(value, key=key_)), LIMIT)
    assert message[0] is not None or message[1] is not None
    assert message[1] == value


@given(
    st.integers(0, 1_000_000),
    st.integers(0, 1_000_000),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.integers(0, 300_000).map(bytes)), max_size=4),
    st.text(max_size=2_000),
)
@example(900_000, 262_144, [], "")
@example(10, 262_144, [("h", bytes(900_000))], "")
def test_a_letter_always_fits_a_batch(
    key_bytes: int, value_bytes: int, headers: list[tuple[str, bytes | None]], expected: str
) -> None:
    bad = record(bytes(value_bytes), key=bytes(key_bytes), headers=headers)
    message = letter(rejected(bad, expected=expected), 800_000)
    size = len(message[0] or b"") + len(message[1] or b"")
    size += sum(len(name) + len(value or b"") + 10 for name, value in message[2])
    assert size < BATCH_BYTES


KEPT_BY_US = (HEADER_KEPT, b"ours")
SAID_BY_US = [name for name, _ in letter(rejected(record(b"x")), LIMIT, kept=[KEPT_BY_US])[2]]


@pytest.mark.parametrize("kept", [[], [KEPT_BY_US]], ids=["first attempt", "later attempt"])
@pytest.mark.parametrize("name", SAID_BY_US)
def test_a_senders_headers_cannot_speak_in_the_letters_name(name: str, kept: list[tuple[str, bytes]]) -> None:
    own = [("traceparent", b"kept"), ("none", None)]
    forged = letter(rejected(record(b"x", headers=[(name, b"forged"), *own, (name, None)])), LIMIT, kept=kept)
    assert forged == letter(rejected(record(b"x", headers=own)), LIMIT, kept=kept)
    assert headers_of(forged).items() >= dict(own).items()


def test_a_key_beyond_4_kb_is_its_hash_and_headers_beyond_16_kb_are_left_out() -> None:
    for size, is_hashed in ((4_096, False), (4_097, True)):
        key_, _, _ = letter(rejected(record(b"x", key=bytes(size))), LIMIT)
        assert key_ == (b"sha256:" + sha256(bytes(size)).hexdigest().encode() if is_hashed else bytes(size))
    told = {name for name, _ in letter(rejected(record(b"x")), LIMIT)[2]}
    for size, is_left_out in ((16_384, False), (16_385, True)):
        headers = [("a", b"1"), (HEADER_REDRIVEN, b"2"), ("b", bytes(size - len("ab12" + HEADER_REDRIVEN)))]
        found = headers_of(letter(rejected(record(b"x", headers=headers)), LIMIT))
        assert found.keys() - told == {HEADER_REDRIVEN} | (set() if is_left_out else {"a", "b"})
        assert found[HEADER_REDRIVEN] == b"2", "else nobody would know how often it came back"


@given(st.text(max_size=2_000))
def test_a_letters_texts_are_short_and_valid_utf8(text: str) -> None:
    found = headers_of(letter(rejected(record(b"x"), expected=text), LIMIT))["expected"]
    assert len(found) <= HEADER_BYTES_MAX
    found.decode()
    assert text.encode("utf-8", "replace").startswith(found)
