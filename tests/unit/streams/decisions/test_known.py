"""What is remembered of answers: as little as it says, and never another answer's."""

from __future__ import annotations

import msgspec

from pointsman.schemas.outcome import Answer
from pointsman.streams.decisions.known import BYTES_MAX, KNOWN_MAX, KnownAnswers


def answer(n: int, reason: str = "") -> Answer:
    return Answer(decider="rules@1", prediction="yes", score=n / 10_000, confidence=0.9, reason=reason)


def test_an_answer_that_comes_again_is_not_encoded_again() -> None:
    known, one = KnownAnswers(), answer(1)
    assert known.get(id(one)) is None
    first = known.remember(one)
    assert known.get(id(one)) is first
    assert first.encoded == msgspec.json.encode(one)


def test_of_rules_that_make_each_answer_anew_only_so_many_are_held() -> None:
    known = KnownAnswers()
    first = known.remember(answer(0))
    for n in range(1, 3 * KNOWN_MAX):
        made = answer(n)
        held = known.remember(made)
        assert held.answer is made
        assert held.encoded == msgspec.json.encode(made)
    assert len(known) == KNOWN_MAX
    assert known.get(id(first.answer)) is None, "the oldest goes first"


def test_a_long_answer_is_not_held() -> None:
    known, long = KnownAnswers(), answer(1, "why " * BYTES_MAX)
    assert known.remember(long).encoded == msgspec.json.encode(long)
    assert len(known) == 0
