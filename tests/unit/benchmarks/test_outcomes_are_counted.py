"""A contender that loses, doubles or changes messages must not win: every fault that is planted is found."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.broker import Answers, judge
from benchmarks.contenders import decision
from benchmarks.contenders.decision import Arrived, Decide
from pointsman.models.agents.documentation_keeper import AGENT

COUNT = 50
INPUTS = [msgspec.json.encode(AGENT.examples[i % len(AGENT.examples)]) for i in range(COUNT)]
REQUESTS = [
    (b"r%d" % i, b'{"id":"r%d","agent":"documentation-keeper","input":%s}' % (i, value))
    for i, value in enumerate(INPUTS)
]
COPIES = list(REQUESTS)


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[bytes, bytes]]:
    decide = Decide(0.0, 0.0)
    return decide([Arrived(value, "requests", 0, i, 0) for i, (_, value) in enumerate(REQUESTS)])


def test_copies_and_decisions_that_are_all_there_count(outcomes: list[tuple[bytes, bytes]]) -> None:
    assert judge(REQUESTS, COPIES, decides=False) == Answers(0, 0, 0, 0)
    assert judge(REQUESTS, outcomes, decides=True) == Answers(0, 0, 0, 0)
    assert judge(REQUESTS, outcomes, decides=True).fault(exactly_once=True) is None


def test_a_planted_loss_is_found() -> None:
    answers = judge(REQUESTS, COPIES[:-1], decides=False)
    assert answers.fault(exactly_once=False) == "1 missing outcomes"


def test_a_planted_double_is_found_where_exactly_once_is_said() -> None:
    answers = judge(REQUESTS, [*COPIES, COPIES[3]], decides=False)
    assert answers.fault(exactly_once=True) == "1 doubled outcomes"
    assert answers.fault(exactly_once=False) is None


def test_a_loss_is_not_made_good_by_a_double() -> None:
    answers = judge(REQUESTS, [*COPIES[:-1], COPIES[3]], decides=False)
    assert (answers.missing, answers.doubled) == (1, 1)


def test_an_outcome_that_nobody_asked_for_is_found() -> None:
    answers = judge(REQUESTS, [*COPIES, (b"other", b"{}")], decides=False)
    assert answers.fault(exactly_once=False) == "1 strange outcomes"


def test_a_copy_with_other_content_is_found() -> None:
    answers = judge(REQUESTS, [*COPIES[:-1], (COPIES[-1][0], b"{}")], decides=False)
    assert answers.fault(exactly_once=False) == "1 wrong outcomes"


def test_copies_are_no_decisions() -> None:
    assert judge(REQUESTS, COPIES, decides=True).wrong == COUNT


def test_an_outcome_with_another_answer_is_found(outcomes: list[tuple[bytes, bytes]]) -> None:
    key, value = outcomes[0]
    other = next(p for p in AGENT.predictions if p.encode() not in value)
    mine = next(p for p in AGENT.predictions if p != other)
    changed = [(key, value.replace(mine.encode(), other.encode())), *outcomes[1:]]
    assert judge(REQUESTS, changed, decides=True).wrong == 1


def test_answers_of_the_rules_in_the_models_place_are_seen(outcomes: list[tuple[bytes, bytes]]) -> None:
    fell = [
        (key, value.replace(b'"fallback_reason":null', b'"fallback_reason":"model_timeout"'))
        for key, value in outcomes[: COUNT // 2]
    ]
    assert judge(REQUESTS, fell + outcomes[COUNT // 2 :], decides=True).fell_back == 0.5


def test_the_estimator_of_others_and_the_trees_that_are_served_are_one_model() -> None:
    ours, theirs = decision.model(estimator=False), decision.model(estimator=True)
    rows = [probe.row for probe in ours.card.probes]
    assert [answer.score for answer in theirs.decide(rows)] == [probe.score for probe in ours.card.probes]
    assert ours.decide(rows) == theirs.decide(rows)
