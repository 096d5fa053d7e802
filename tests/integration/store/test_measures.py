"""Success, satisfaction, expected accuracy and agreement: what the views say is what their formulas say."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models import evaluate
from pointsman.models.evaluate import Costs
from pointsman.models.measure import Measure
from pointsman.models.satisfaction import WEIGHTS, Signal, Weight
from pointsman.schemas.outcome import Answers
from pointsman.streams.store import AuditStore
from pointsman.streams.store.check import aggregates_check
from pointsman.streams.store.queries import load
from tests.integration.store.helpers import batch
from tests.support.outcomes import START, answer, feedback, outcome, shadow

AGENT = "documentation-keeper"
COSTS = Costs(needless=1.0, missed=2.5)
MEASURE = Measure(AGENT, "update", COSTS)
FEEDBACK, SHADOWS = "decision-feedback", "decision-shadows"


def one(people: psycopg.Connection, query: str, values: Any = None) -> Any:
    row = people.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


async def test_costs_and_weights_are_told_once_and_kept_when_they_change(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.tell([MEASURE], WEIGHTS)
    await store.tell([MEASURE], WEIGHTS)
    assert one(people, "SELECT count(*) FROM ml_learning.agent_measures") == 1
    assert one(people, "SELECT count(*) FROM ml_learning.satisfaction_weights") == len(WEIGHTS)
    changed: dict[Signal, Weight] = {**WEIGHTS, "accepted": Weight(0.5, 4.5)}
    await store.tell([Measure(AGENT, "update", Costs(1.0, 3.0))], changed)
    assert one(people, "SELECT count(*), max(missed) FROM ml_learning.agent_measures") == (2, 3.0)
    assert one(people, "SELECT missed FROM ml_learning.agent_measures_now") == 3.0
    now = "SELECT points, weight FROM ml_learning.satisfaction_weights_now WHERE signal = 'accepted'"
    assert one(people, now) == (4.5, 0.5)
    assert one(people, "SELECT count(*) FROM ml_learning.satisfaction_weights") == len(WEIGHTS) + 1
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        people.execute("UPDATE ml_learning.agent_measures SET missed = 0")


SAID = ["update", "none"]


async def test_success_is_that_of_the_models_card(store: AuditStore, people: psycopg.Connection) -> None:
    """As `evaluate.success_values` has it, which the card's figures and the gates are made of."""
    await store.tell([MEASURE], WEIGHTS)
    cases = [
        (label, rules, ml, by_ml)
        for label in SAID
        for rules in SAID
        for ml in (*SAID, None)
        for by_ml in (0, 1)
    ]
    sent, told = [], []
    for n, (label, rules, ml, by_ml) in enumerate(cases):
        answers = Answers(rules=answer("rules@1", rules), ml=None if ml is None else answer("ml@7", ml))
        served = ml if by_ml and ml is not None else rules
        source = "ml" if by_ml and ml is not None else "deterministic"
        sent.append(outcome(n, answers=answers, prediction=served, source=source, decided_at=START))
        told.append(feedback(f"e{n}", f"d0-{n}", label=label))
    await store.write(batch(0, len(sent), sent))
    await store.write(batch(0, len(told), topic=FEEDBACK, feedback=told, authorised=[False] * len(told)))

    def total(said: list[str | None]) -> float:
        pairs = [(case[0], each) for case, each in zip(cases, said, strict=True) if each is not None]
        truth, answered = (
            np.array([each == "update" for each in column]) for column in zip(*pairs, strict=True)
        )
        return float(evaluate.success_values(truth, answered, COSTS).sum())

    found = one(
        people,
        "SELECT labels, served_success, rules_success, ml_labels, ml_success FROM ml_learning.decision_success_minutes",
    )
    assert found == (
        len(cases),
        pytest.approx(total([each.prediction for each in sent])),
        pytest.approx(total([case[1] for case in cases])),
        sum(case[2] is not None for case in cases),
        pytest.approx(total([case[2] for case in cases])),
    )


def test_an_answer_that_is_not_there_has_no_success(people: psycopg.Connection) -> None:
    ask = "SELECT ml_learning.success_of(%s, %s, 'update', 1, 2.5)"
    assert one(people, ask, ("update", None)) is None
    assert one(people, ask, ("update", "none")) == 0.0
    assert one(people, ask, ("none", "update")) == pytest.approx(0.6)
    assert one(people, ask, ("else", "other")) == 0.0


async def test_satisfaction_is_the_weighted_mean_of_what_was_told(
    store: AuditStore, people: psycopg.Connection
) -> None:
    weights: dict[Signal, Weight] = {**WEIGHTS, "edited": Weight(0.0, 3.0)}
    await store.tell([], weights)
    await store.write(batch(0, 6, [outcome(n, decided_at=START) for n in range(6)]))
    events: list[Any] = [
        {"rating": 4.5, "comment": "good"},
        {"rating": 1.5, "signal": "accepted"},
        {"signal": "edited"},  # weighs nothing here
        {"signal": "reverted", "correction": "not so"},
        {"signal": "ignored"},
        {"complaint": "no"},
    ]
    told = [feedback(f"e{n}", f"d0-{n}", **each) for n, each in enumerate(events)]
    await store.write(batch(0, 6, topic=FEEDBACK, feedback=told))
    signals, weight, points = one(
        people, "SELECT signals, weight::float, points::float FROM ml_learning.decision_satisfaction_minutes"
    )
    assert signals == 7
    assert weight == pytest.approx(1 + 1 + 0.25 + 0.5 + 0.5 + 0.1 + 1)
    assert points == pytest.approx(4.5 + 1.5 + 0.25 * 4 + 0.5 * 1 + 0.5 * 2 + 0.1 * 3 + 1 * 1)


async def test_expected_accuracy_is_the_mean_of_each_answers_probability(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.tell([MEASURE], WEIGHTS)
    scores = [(0.9, "update"), (0.45, "update"), (0.2, "none"), (0.39, "none")]
    sent = [
        outcome(
            n,
            answers=Answers(rules=answer("rules@1", "none", 0.1), ml=answer("ml@7", said, score)),
            prediction=said,
            source="ml",
            decided_at=START,
        )
        for n, (score, said) in enumerate(scores)
    ]
    await store.write(batch(0, 4, sent))
    look = "SELECT decisions, right_expected, success_expected FROM ml_learning.decision_expected_minutes WHERE answer = %s"
    right = sum(score if said == "update" else 1 - score for score, said in scores)
    success = sum(1 - (1 - score) * 0.4 if said == "update" else 1 - score for score, said in scores)
    expected = (4, pytest.approx(right), pytest.approx(success))
    assert one(people, look, ("served",)) == expected == one(people, look, ("ml",))
    assert one(people, look, ("rules",)) == (4, pytest.approx(3.6), pytest.approx(3.6))


@pytest.mark.parametrize("order", list(permutations(["outcome", "first", "second"])))
async def test_a_shadow_answer_is_compared_once_whatever_comes_first(
    store: AuditStore, people: psycopg.Connection, order: tuple[str, ...]
) -> None:
    at = START + timedelta(seconds=1)
    writes = {
        "outcome": batch(0, 1, [outcome()]),
        "first": batch(0, 1, topic=SHADOWS, shadows=[shadow(prediction="update", answered_at=at)]),
        "second": batch(
            1, 2, topic=SHADOWS, shadows=[shadow(answer=answer("ml@8", "none", 0.1), answered_at=at)]
        ),
    }
    if order.index("second") < order.index("first"):
        writes["second"] = batch(0, 1, topic=SHADOWS, shadows=writes["second"].shadows)
        writes["first"] = batch(1, 2, topic=SHADOWS, shadows=writes["first"].shadows)
    for each in order:
        await store.write(writes[each])
    came_first = "first" if order.index("first") < order.index("second") else "second"
    look = "SELECT both_answered, agreements, in_shadow FROM ml_learning.decision_agreement_minutes"
    assert one(people, look) == (1, int(came_first == "first"), 1)
    async with store.connection() as connection:
        assert await aggregates_check(connection) == []


async def test_the_models_answer_within_an_outcome_is_not_compared_again(
    store: AuditStore, people: psycopg.Connection
) -> None:
    both = Answers(rules=answer(), ml=answer("ml@7", "update"))
    await store.write(batch(0, 1, [outcome(answers=both)]))
    await store.write(batch(0, 1, topic=SHADOWS, shadows=[shadow(prediction="none")]))
    look = "SELECT both_answered, agreements, in_shadow FROM ml_learning.decision_agreement_minutes"
    assert one(people, look) == (1, 1, 0)
    async with store.connection() as connection:
        assert await aggregates_check(connection) == []


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("UPDATE ml_learning.decision_score_shards SET score_sum_e6 = score_sum_e6 + 1", "scores"),
        ("DELETE FROM ml_learning.decision_confidence_shards", "confidences"),
        ("UPDATE ml_learning.decision_flag_shards SET decisions = 2", "flags"),
        ("UPDATE ml_learning.decision_shadow_shards SET agreements = 1 - agreements", "agreements"),
    ],
)
async def test_the_check_finds_a_figure_that_was_changed(
    store: AuditStore, people: psycopg.Connection, query: str, table: str
) -> None:
    await store.write(batch(0, 1, [outcome()]))
    await store.write(batch(0, 1, topic=SHADOWS, shadows=[shadow()]))
    people.execute(query.encode())
    async with store.connection() as connection:
        assert {each.what for each in await aggregates_check(connection)} == {table}


async def test_what_was_decided_before_is_counted_by_the_migration(
    store: AuditStore, people: psycopg.Connection
) -> None:
    """The backfill's own statements, on tables emptied of what the sink counted."""
    from pointsman.streams.store.migrate import migrations

    both = Answers(rules=answer(), ml=answer("ml@7", "none", 0.3))
    await store.write(
        batch(0, 3, [outcome(0), outcome(1, answers=both), outcome(2, status="pending_approval", revision=0)])
    )
    await store.write(batch(0, 1, topic=SHADOWS, shadows=[shadow()]))
    (text,) = [each.sql for each in migrations() if each.name == "measures"]
    for table in ("score", "confidence", "flag", "shadow"):
        people.execute(f"DELETE FROM ml_learning.decision_{table}_shards".encode())
    for statement in text[text.index("-- What was decided before") :].split(";"):
        if statement.strip():
            people.execute(statement.encode())
    async with store.connection() as connection:
        assert await aggregates_check(connection) == []


async def test_the_last_hour_and_day_are_shown_by_arm(store: AuditStore, people: psycopg.Connection) -> None:
    await store.tell([MEASURE], WEIGHTS)
    now = datetime.now(UTC)
    ages = [timedelta(minutes=5), timedelta(hours=5), timedelta(days=3)]
    sent = [outcome(n, decided_at=now - age, arm="candidate") for n, age in enumerate(ages)]
    await store.write(batch(0, 3, sent))
    told = [
        feedback("a", "d0-0", label="none", rating=2),
        feedback("b", "d0-1", label="update", signal="accepted"),
    ]
    await store.write(batch(0, 2, topic=FEEDBACK, feedback=told))
    found = {(each.arm, each.window): each for each in await store.standings()}
    assert found.keys() == {("candidate", "1h"), ("candidate", "24h")}
    hour, day = found["candidate", "1h"], found["candidate", "24h"]
    assert (hour.decisions, hour.labels, hour.success, hour.signals, hour.satisfaction) == (
        1,
        1,
        pytest.approx(0.6),
        1,
        2.0,
    )
    assert (day.decisions, day.labels, day.success, day.signals) == (2, 2, pytest.approx(0.8), 2)
    assert day.satisfaction == pytest.approx((2 + 0.25 * 4) / 1.25)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_database_draws_the_same_intervals(wilson: psycopg.Connection, right: int, wrong: int) -> None:
    n = right + wrong
    expected = evaluate.wilson(right, n)
    low, high = one(
        wilson, "SELECT ml_learning.wilson(%s, %s, -1), ml_learning.wilson(%s, %s, 1)", (right, n, right, n)
    )
    if n == 0:
        assert (low, high) == (None, None)
    else:
        assert (low, high) == (pytest.approx(expected.low, abs=1e-6), pytest.approx(expected.high, abs=1e-6))


@pytest.fixture(scope="module")
def wilson(postgres: str, migrated_template: str) -> Any:
    from tests.support.postgres import fresh_database

    with (
        fresh_database(postgres, template=migrated_template) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        yield connection


def test_nothing_is_told_or_shown_while_there_is_no_database() -> None:
    from pointsman.streams.store.errors import StoreUnavailable

    async def ask() -> None:
        async with AuditStore("postgresql://nobody@127.0.0.1:1/none", wait_s=0.2) as store:
            with pytest.raises(StoreUnavailable):
                await store.tell([MEASURE], WEIGHTS)
            with pytest.raises(StoreUnavailable):
                await store.standings()

    asyncio.run(ask())


async def test_shadow_answers_are_found_by_their_keys_and_not_by_going_through_tables(
    store: AuditStore, people: psycopg.Connection
) -> None:
    """Whatever the server knows of its tables: a batch was once joined with all that was ever decided."""
    count = 3_000
    await store.write(batch(0, count, [outcome(n) for n in range(count)]))
    await store.write(batch(0, count, topic=SHADOWS, shadows=[shadow(n) for n in range(count)]))
    for analysed in (False, True):
        if analysed:
            people.execute("ANALYZE")
        topic = one(people, "SELECT id FROM ml_learning.kafka_topics WHERE topic = 'decision-requests'")
        places: Any = [
            [f"d0-{n}" for n in range(500)],
            [topic] * 500,
            [0] * 500,
            list(range(500)),
            [None] * 500,
        ]
        (plan,) = one(people, "EXPLAIN (FORMAT JSON) " + load("truth.sql")["add_agreements"].decode(), places)
        reads = [node["Node Type"] for node in nodes(plan["Plan"]) if "Relation Name" in node]
        assert len(reads) >= 3
        assert "Seq Scan" not in reads


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for each in plan.get("Plans", []) for node in nodes(each))]
