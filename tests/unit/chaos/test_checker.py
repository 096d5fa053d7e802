"""The checker finds what it is for: each fault is planted in the evidence of a clean run, and found by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.check import check
from tests.chaos.evidence import Decided, Evidence, Letter, minute_of
from tests.chaos.load import Sent, Truth

REQUESTS, FEEDBACK = "decision-requests", "decision-feedback"
AT_US = 1_800_000_000_000_000
MINUTE = ("keeper", minute_of(AT_US), "control")

SENT = [
    # id, digest, reason; the log of partition 0 in this order
    ("a", "d-a", ""),
    ("b", "d-b", ""),
    ("a", "d-a", ""),
    ("a", "d-other", ""),
    ("", "d-x", "not_json"),
    ("c", "d-c", ""),
]


def decided(id_: str, offset: int) -> Decided:
    return Decided(
        id=id_,
        place=(REQUESTS, 0, offset),
        status="final",
        created_us=AT_US,
        digest=f"rest of {id_}",
        arm="control",
        agent="keeper",
        by_ml=id_ == "b",
        fallback=None,
        content_hash=f"d-{id_}",
    )


def clean() -> tuple[Truth, Evidence]:
    """Three answers, a repeat, a conflict, a piece of nonsense, and two labels of which one was sent twice."""
    sent = [
        Sent(n, REQUESTS, id_, digest, reason, partition=0, offset=n)
        for n, (id_, digest, reason) in enumerate(SENT)
    ]
    for n, (event, of) in enumerate([("f-a", "a"), ("f-a", "a"), ("f-b", "b")]):
        sent.append(
            Sent(*(6 + n, FEEDBACK, event, f"d-{event}"), decision_id=of, label="none", partition=0, offset=n)
        )
    found = Evidence(
        records={(s.topic, s.partition, s.offset): (s.seq, s.digest) for s in sent},
        outcomes=[(0, decided(id_, offset)) for id_, offset in (("a", 0), ("b", 1), ("c", 5))],
        letters=[
            Letter((REQUESTS, 0, 3), "id_reused", "d-other"),
            Letter((REQUESTS, 0, 4), "not_json", "d-x"),
        ],
        letter_rows=[Letter((REQUESTS, 0, 3), "id_reused"), Letter((REQUESTS, 0, 4), "not_json")],
        minutes={MINUTE: (3, 1, 0)},
        feedback=Counter({("a", "f-a", "none"): 1, ("b", "f-b", "none"): 1}),
        labels=Counter({("a", "none"): 1, ("b", "none"): 1}),
        ledger={(REQUESTS, 0): Counter(requests=6, outcomes=3, dead_letters=2, duplicates=1)},
    )
    found.rows = [each for _, each in found.outcomes]
    return Truth(sent), found


def test_a_clean_run_has_no_findings() -> None:
    assert check(*clean(), REQUESTS) == []


Plant = Callable[[Truth, Evidence], object]


def change_row(_: Truth, found: Evidence) -> None:
    found.rows[0] = replace(found.rows[0], digest="another confidence")


def answer_twice(_: Truth, found: Evidence) -> None:
    found.outcomes.append(found.outcomes[1])


def answer_the_repeat(_: Truth, found: Evidence) -> None:
    found.outcomes.append((0, decided("a", 2)))


def lose_in_the_broker(_: Truth, found: Evidence) -> None:
    del found.records[REQUESTS, 0, 5]


def change_in_the_broker(_: Truth, found: Evidence) -> None:
    found.records[REQUESTS, 0, 5] = (5, "d-changed")


PLANTED: dict[str, tuple[str, Plant]] = {
    "a lost outcome": ("lost: a valid request", lambda _, found: found.outcomes.pop()),
    "an outcome twice": ("doubled: more than one", answer_twice),
    "a repeat that was answered": ("doubled: more than one", answer_the_repeat),
    "an outcome of nothing": (
        "nobody asked for",
        lambda _, found: found.outcomes.append((0, decided("z", 9))),
    ),
    "an outcome elsewhere": (
        "in another partition",
        lambda _, found: found.outcomes.__setitem__(0, (1, found.outcomes[0][1])),
    ),
    "a pending outcome left": (
        "not final",
        lambda _, f: f.outcomes.__setitem__(0, (0, replace(f.outcomes[0][1], status="pending_approval"))),
    ),
    "other content answered": (
        "of other content",
        lambda _, f: f.outcomes.__setitem__(0, (0, replace(f.outcomes[0][1], content_hash="d-other"))),
    ),
    "a missing row": ("without its audit row", lambda _, found: found.rows.pop(1)),
    "a row twice": ("more than one audit row", lambda _, found: found.rows.append(found.rows[0])),
    "a changed row": ("says something else than its outcome: 1 (a: digest", change_row),
    "a row of nothing": ("without an outcome", lambda _, found: found.rows.append(decided("z", 9))),
    "a missing letter": ("no dead letter in the topic", lambda _, found: found.letters.pop()),
    "a letter twice": (
        "more than one dead letter in the topic",
        lambda _, found: found.letters.append(found.letters[0]),
    ),
    "a letter of a good record": (
        "of a good record",
        lambda _, found: found.letters.append(Letter((REQUESTS, 0, 0), "not_json")),
    ),
    "another reason": (
        "with another reason",
        lambda _, f: f.letters.__setitem__(1, replace(f.letters[1], reason="too_deep")),
    ),
    "other bytes": (
        "with other bytes",
        lambda _, f: f.letters.__setitem__(1, replace(f.letters[1], digest="d-y")),
    ),
    "a missing letter row": ("no dead letter in the table", lambda _, found: found.letter_rows.pop()),
    "a wrong aggregate": (
        "an aggregate that differs",
        lambda _, found: found.minutes.update({MINUTE: (4, 1, 0)}),
    ),
    "an aggregate of nothing": (
        "an aggregate that differs",
        lambda _, found: found.minutes.update({("keeper", "1999-01-01 00:00", "control"): (1, 0, 0)}),
    ),
    "a missing aggregate": ("an aggregate that differs", lambda _, found: found.minutes.clear()),
    "a label twice": (
        "a label that was kept twice",
        lambda _, found: found.feedback.update({("a", "f-a", "none"): 1}),
    ),
    "a missing label": (
        "a label without its row",
        lambda _, found: found.feedback.pop(("b", "f-b", "none")),
    ),
    "a label joined twice": (
        "not joined once",
        lambda _, found: found.labels.update({("a", "none"): 1}),
    ),
    "a label joined to nothing": (
        "joined to something else",
        lambda _, found: found.labels.update({("c", "none"): 1}),
    ),
    "a ledger that does not close": (
        "the ledger of decision-requests[0]: 1 (outcomes 2, not 3",
        lambda _, found: found.ledger[REQUESTS, 0].update({"outcomes": -1}),
    ),
    "requests that still wait for a retry": (
        "retrying 1, not 0",
        lambda _, found: found.ledger[REQUESTS, 0].update({"retrying": 1}),
    ),
    "no ledger": ("the ledger of", lambda _, found: found.ledger.clear()),
    "a record that the broker lost": ("not in its log", lose_in_the_broker),
    "a record that the broker changed": ("changed in the broker's log", change_in_the_broker),
    "an open transaction": (
        "an open transaction",
        lambda _, found: found.open_transactions.append("decision-outcomes[3]"),
    ),
    "a difference that the product itself sees": (
        "the product's own check",
        lambda _, found: found.differences.append("minutes ..."),
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_found(what: str) -> None:
    named, plant = PLANTED[what]
    truth, found = clean()
    plant(truth, found)
    findings = check(truth, found, REQUESTS)
    assert any(named in finding for finding in findings), findings


def test_a_record_that_was_never_acknowledged_may_be_there_or_not() -> None:
    truth, found = clean()
    truth.sent[5].offset = -1
    assert check(truth, found, REQUESTS) == []
    del found.records[REQUESTS, 0, 5]
    found.outcomes.pop()
    found.rows.pop()
    found.minutes[MINUTE] = (2, 1, 0)
    found.ledger[REQUESTS, 0] = Counter(requests=5, outcomes=2, dead_letters=2, duplicates=1)
    assert check(truth, found, REQUESTS) == []


def test_feedback_may_be_refused_twice_in_the_topic_and_once_in_the_table() -> None:
    truth, found = clean()
    truth.sent.append(Sent(9, FEEDBACK, "", "d-f", "not_json", partition=0, offset=3))
    found.records[FEEDBACK, 0, 3] = (9, "d-f")
    found.letters += [Letter((FEEDBACK, 0, 3), "not_json", "d-f")] * 2
    found.letter_rows.append(Letter((FEEDBACK, 0, 3), "not_json"))
    assert check(truth, found, REQUESTS) == []
    found.letter_rows.append(found.letter_rows[-1])
    assert any("more than one dead letter in the table" in each for each in check(truth, found, REQUESTS))


DELAYS = ("retries-1s", "retries-2s")


def tried_again() -> tuple[Truth, Evidence]:
    """A clean run with one request that was tried three times."""
    truth, found = clean()
    refused = replace(
        truth.sent[4], seq=len(truth.sent), id="z", offset=6, reason="unknown_agent", digest="d-z"
    )
    truth.sent.append(refused)
    found.records[REQUESTS, 0, 6] = (refused.seq, refused.digest)
    found.letters.append(Letter((REQUESTS, 0, 6), "unknown_agent", "d-z"))
    found.letter_rows.append(Letter((REQUESTS, 0, 6), "unknown_agent"))
    found.ledger[REQUESTS, 0] = Counter(requests=7, outcomes=3, dead_letters=2, duplicates=1, retrying=1)
    found.ledger["retries-1s", 0] = Counter(requests=1, retrying=1)
    found.ledger["retries-2s", 0] = Counter(requests=1, dead_letters=1)
    return truth, found


def test_what_is_tried_again_is_accounted_for_in_every_topic() -> None:
    assert check(*tried_again(), REQUESTS, DELAYS) == []


@pytest.mark.parametrize(
    ("topic", "column"), [(REQUESTS, "retrying"), *((each, "requests") for each in DELAYS)]
)
def test_what_was_lost_on_its_way_to_another_attempt_is_found(topic: str, column: str) -> None:
    truth, found = tried_again()
    found.ledger[topic, 0][column] -= 1
    assert any(f"the ledger of {topic}[0]" in each for each in check(truth, found, REQUESTS, DELAYS))
