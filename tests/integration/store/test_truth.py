"""What is learned later is counted once in the minute of its decision, whatever comes first, twice, late or against it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import count as numbers
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Answers
from pointsman.streams.store import AuditStore, truths
from pointsman.streams.store.check import aggregates_check
from pointsman.streams.store.migrate import migrate, migrations
from pointsman.streams.store.truth import told_by
from tests.integration.store.helpers import batch
from tests.support.outcomes import START, answer, feedback, outcome, shadow
from tests.support.postgres import fresh_database

RUNS = numbers()
FEEDBACK, SHADOWS = "decision-feedback", "decision-shadows"
HANG_S = 20.0


def told(start: int, *events: Feedback, signed: bool = False, **changes: Any) -> Any:
    given_ = {"topic": FEEDBACK, "feedback": events, "authorised": [signed] * len(events), **changes}
    return batch(start, start + len(events), **given_)


async def unequal(store: AuditStore) -> list[Any]:
    async with store.connection() as connection:
        return await aggregates_check(connection)


def minutes(people: psycopg.Connection, columns: str) -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM ml_learning.decision_truth_minutes ORDER BY minute, arm"
    return people.execute(query.encode()).fetchall()


def labels(people: psycopg.Connection) -> list[tuple[Any, ...]]:
    query = "SELECT label, served, rules, ml, decisions FROM ml_learning.decision_label_minutes ORDER BY minute, label"
    return people.execute(query).fetchall()


BOTH = Answers(rules=answer(), ml=answer("ml@7", "none", 0.3))

ORDERS: dict[str, list[str]] = {
    "after": ["outcome", "shadow", "feedback"],
    "before": ["feedback", "outcome", "shadow"],
    "between": ["outcome", "feedback", "shadow"],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_a_label_counts_for_both_arms_whatever_comes_first(
    store: AuditStore, people: psycopg.Connection, order: list[str]
) -> None:
    writes = {
        "outcome": batch(0, 1, [outcome()]),
        "shadow": batch(0, 1, topic=SHADOWS, shadows=[shadow(prediction="none")]),
        "feedback": told(0, feedback("e", label="none", rating=4.5)),
    }
    for each in order:
        await store.write(writes[each])
    assert labels(people) == [("none", "update", "update", "none", 1)]
    accuracy = "SELECT labels, served_correct, rules_correct, ml_labels, ml_correct FROM ml_learning.decision_accuracy_minutes"
    assert people.execute(accuracy.encode()).fetchall() == [(1, 0, 0, 1, 1)]
    assert minutes(people, "decisions, ratings, rating_sum::float") == [(1, 1, 4.5)]
    assert await unequal(store) == []


async def test_the_last_of_a_kind_counts_and_nothing_of_those_before(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome(answers=BOTH)]))
    await store.write(told(0, feedback("1", label="update", rating=2, signal="accepted")))
    await store.write(
        told(1, feedback("2", label="none"), feedback("3", rating=5), feedback("4", signal="reverted"))
    )
    assert labels(people) == [("none", "update", "update", "none", 1)]
    assert minutes(people, "decisions, ratings, rating_sum::float, accepted, reverted") == [(1, 1, 5.0, 0, 1)]
    assert await unequal(store) == []


async def test_a_month_late_it_is_counted_in_the_minute_of_the_decision(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome()]))
    late = START + timedelta(days=30)
    await store.write(told(0, feedback("e", label="none", observed_at=late)))
    assert minutes(people, "minute, arm") == [(START.replace(second=0), "control")]


async def test_what_a_task_took_comes_from_its_end_or_from_what_was_said(
    store: AuditStore, people: psycopg.Connection
) -> None:
    asked = START - timedelta(seconds=10)
    await store.write(batch(0, 4, [outcome(n, requested_at=asked if n else None) for n in range(4)]))
    ended = START + timedelta(seconds=50, milliseconds=1, microseconds=999)
    await store.write(
        told(
            0,
            feedback("e", "d0-0", task_completed_at=ended),
            feedback("e", "d0-1", task_completed_at=ended),
            feedback("e", "d0-2", task_completed_at=ended, task_duration_s=7.25),
            feedback("e", "d0-3", task_completed_at=START - timedelta(days=1)),
        )
    )
    assert minutes(people, "tasks, task_sum_s::float") == [(4, 50.001 + 60.001 + 7.25)]
    assert await unequal(store) == []


async def test_a_violation_counts_only_where_it_was_signed(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 2, [outcome(0), outcome(1)]))
    says: Any = {"critical_error": "it deleted a page", "safety_violation": "and a secret", "complaint": "no"}
    await store.write(told(0, feedback("e", "d0-0", **says)))
    assert minutes(people, "critical_errors, safety_violations, complaints") == [(0, 0, 1)]
    await store.write(told(1, feedback("f", "d0-1", **says), signed=True))
    await store.write(told(2, feedback("g", "d0-1", critical_error="somebody else says so too")))
    assert minutes(people, "critical_errors, safety_violations, complaints") == [(1, 1, 2)]
    assert await unequal(store) == []


async def test_the_largest_that_senders_may_say_adds_up(
    store: AuditStore, people: psycopg.Connection
) -> None:
    many: Any = {
        "cost": 1e12,
        "tokens": 10**12,
        "task_duration_s": 1e12,
        "tool_calls": 10**12,
        "tool_calls_correct": 1,
    }
    await store.write(batch(0, 20, [outcome(n) for n in range(20)]))
    await store.write(told(0, *(feedback("e", f"d0-{n}", **many) for n in range(20))))
    assert minutes(people, "cost_sum::float, token_sum::float, task_sum_s::float, tool_calls::float") == [
        (2e13, 2e13, 2e13, 2e13)
    ]
    assert await unequal(store) == []


async def test_a_prediction_of_any_length_has_a_place_in_the_table_of_labels(
    store: AuditStore, people: psycopg.Connection
) -> None:
    long = "\N{SNOWMAN}" * 3_000
    await store.write(batch(0, 1, [outcome(prediction=long, answers=Answers(rules=answer(prediction=long)))]))
    await store.write(told(0, feedback("e", label="\N{SNOWMAN}" * 100)))
    assert [row[-1] for row in labels(people)] == [1]
    assert await unequal(store) == []


async def test_feedback_of_a_decision_that_is_being_written_waits_for_it(
    store: AuditStore, people: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sees what the other has not committed yet: without a lock the label would be counted nowhere."""
    joined, go_on = asyncio.Event(), asyncio.Event()
    with_outcomes = truths.with_outcomes

    async def slow(*given_: Any) -> None:
        await with_outcomes(*given_)
        joined.set()
        await go_on.wait()

    monkeypatch.setattr(truths, "with_outcomes", slow)
    async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(store.write(batch(0, 1, [outcome()])))
        await joined.wait()
        label = tasks.create_task(store.write(told(0, feedback("e", label="none"))))
        while not label.done() and not _waits(people):
            await asyncio.sleep(0.005)
        assert not label.done(), "it did not wait for what is under way"
        go_on.set()
    assert labels(people) == [("none", "update", "update", None, 1)]


def _waits(people: psycopg.Connection) -> bool:
    row = people.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    return row is not None and row[0] > 0


async def test_feedback_in_another_partition_is_found_by_the_sweep(
    store: AuditStore, people: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender gave another key than the request had, so it is under another lock."""
    with monkeypatch.context() as patched:

        async def misses(*_: Any) -> None:
            """As if the feedback were committed only after this."""

        patched.setattr(truths, "with_outcomes", misses)
        await store.write(told(0, feedback("e", label="none"), partition=3))
        await store.write(batch(0, 1, [outcome()]))
    assert labels(people) == []
    people.execute("UPDATE ml_learning.decision_truths SET look_at = now() + interval '1 hour'")
    await store.sweep()
    assert await store.waiting() == truths.Waiting(1, 0), "not due yet"
    people.execute("UPDATE ml_learning.decision_truths SET look_at = now()")
    await store.sweep()
    assert await store.waiting() == truths.Waiting(0, 0)
    assert labels(people) == [("none", "update", "update", None, 1)]
    assert await unequal(store) == []


async def test_what_finds_no_decision_is_looked_for_less_and_less_then_given_up_and_still_counted(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(told(0, feedback("e", label="none")))

    async def next_look(age: timedelta) -> float | None:
        people.execute(
            "UPDATE ml_learning.decision_truths SET look_at = now(), known_at = now() - %s", (age,)
        )
        await store.sweep()
        row = people.execute(
            "SELECT extract(epoch FROM look_at - now())::float FROM ml_learning.decision_truths"
        ).fetchone()
        assert row is not None
        return None if row[0] is None else float(row[0])

    first, later, last = [await next_look(timedelta(seconds=age)) for age in (0, 1_200, 86_400)]
    assert first is not None
    assert later is not None
    assert first < 600 < later < 1_800 < (last or 0) <= 3_600, "however slow the machine"
    assert await next_look(timedelta(days=91)) is None
    assert await store.waiting() == truths.Waiting(0, 1)
    await store.write(batch(0, 1, [outcome()]))
    assert labels(people) == [("none", "update", "update", None, 1)]
    assert await store.waiting() == truths.Waiting(0, 0)


async def test_a_sweep_goes_on_until_nothing_is_due(
    store: AuditStore, people: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a migration all that was learned before it is due at once."""
    monkeypatch.setattr(truths, "SWEEP_MAX", 2)
    await store.write(told(0, *(feedback("e", f"d0-{n}", label="none") for n in range(5))))
    people.execute("UPDATE ml_learning.decision_truths SET look_at = now()")
    async with asyncio.timeout(HANG_S):
        await store.sweep()
    due = "SELECT count(*) FROM ml_learning.decision_truths WHERE look_at <= now()"
    assert people.execute(due).fetchone() == (0,)
    assert await store.waiting() == truths.Waiting(5, 0)


@pytest.fixture(scope="module")
def shared(postgres: str, migrated_template: str) -> Iterator[str]:
    """One data base for all examples: each has agents and a cluster of its own."""
    with fresh_database(postgres, template=migrated_template) as dsn:
        yield dsn


kinds = st.fixed_dictionaries(
    {},
    optional={
        "label": st.sampled_from(["update", "none", "zero\0"]),
        "rating": st.floats(1, 5),
        "signal": st.sampled_from(["accepted", "edited", "reverted", "ignored"]),
        "comment": st.just("well"),
        "correction": st.just("c"),
        "complaint": st.just("c"),
        "critical_error": st.just("c"),
        "safety_violation": st.just("c"),
        "task_completed_at": st.integers(-100, 10**7).map(
            lambda ms: START + timedelta(milliseconds=ms, microseconds=7)
        ),
        "task_duration_s": st.floats(0, 1e12),
        "tokens": st.integers(0, 10**12),
        "tool_calls": st.integers(0, 10**12),
        "tool_calls_correct": st.integers(0, 10**12),
        "cost": st.floats(0, 1e12),
    },
)


@st.composite
def histories(draw: st.DrawFn, agent: str) -> list[Any]:
    """Batches in an order in which they may come: of a few decisions, some of them shadowed, some told of."""
    decided = []
    for n in range(draw(st.integers(1, 4))):
        partition = draw(st.integers(0, 1))
        made = outcome(
            n,
            partition=partition,
            agent=agent,
            decision_id=f"{agent}-{n}",
            arm=draw(st.sampled_from(["candidate", "control"])),
            answers=draw(st.sampled_from([BOTH, Answers(rules=answer(prediction="none"))])),
            requested_at=draw(st.sampled_from([None, START - timedelta(microseconds=1)])),
            status=draw(st.sampled_from(["final", "final", "pending_approval"])),
            decided_at=START + timedelta(seconds=draw(st.integers(0, 60))),
        )
        decided.append(("outcome", partition, made))
        if draw(st.booleans()):
            decided.append(
                (
                    "shadow",
                    partition,
                    shadow(n, partition=partition, agent=agent, decision_id=made.decision_id),
                )
            )
    for n in range(draw(st.integers(1, 8))):
        of = f"{agent}-{draw(st.integers(0, 4))}"
        event = feedback(f"e{draw(st.integers(0, 6))}-{n}", of, agent=agent, **draw(kinds))
        decided.append((draw(st.sampled_from(["signed", "unsigned"])), draw(st.integers(0, 2)), event))
    return draw(st.permutations(decided))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_in_any_order_and_cut_the_aggregates_are_those_of_the_audit(shared: str, data: st.DataObject) -> None:
    agent = f"agent-{next(RUNS)}"
    history = data.draw(histories(agent))
    ends: Counter[tuple[str, int]] = Counter()

    def piece(kind: str, partition: int, message: Any) -> Any:
        topic = {"outcome": "decision-outcomes", "shadow": SHADOWS}.get(kind, FEEDBACK)
        at = ends[topic, partition]
        ends[topic, partition] += 1
        where: Any = {"topic": topic, "partition": partition, "cluster": agent}
        if kind == "outcome":
            return batch(at, at + 1, [message], **where)
        if kind == "shadow":
            return batch(at, at + 1, shadows=[message], **where)
        return told(at, message, signed=kind == "signed", **where)

    async def write() -> None:
        async with AuditStore(shared) as store:
            for each in history:
                await store.write(piece(*each))
            assert await unequal(store) == []

    asyncio.run(write())
    final = {made.decision_id for kind, _, made in history if kind == "outcome" and made.status == "final"}
    counted = {
        event.decision_id
        for kind, _, event in history
        if kind in ("signed", "unsigned") and told_by(event, authorised=kind == "signed")
    }
    with psycopg.connect(shared) as connection:
        query = "SELECT coalesce(sum(decisions), 0)::integer FROM ml_learning.decision_truth_minutes WHERE agent_name = %s"
        row = connection.execute(query, (agent,)).fetchone()
    assert row is not None
    assert row[0] == len(counted & final), "a decision is counted once"


async def test_what_was_learned_before_the_migration_is_counted_after_it(database: str) -> None:
    """As a store of version 4 wrote it."""
    await migrate(database, migrations()[:4])
    with psycopg.connect(database, autocommit=True) as connection:
        for seq, (kind, text, number, time) in enumerate(
            [
                ("label", "update", None, None),
                ("label", "none", None, None),
                ("rating", None, 4.5, None),
                ("complaint", None, None, None),
                ("critical_error", None, None, None),
                ("task_completed_at", None, None, START + timedelta(minutes=1)),
            ]
        ):
            connection.execute(
                "INSERT INTO ml_learning.decision_feedback (observed_at, decision_id, agent_name, event_id, kind,"
                " value_text, value_number, value_time, commitment) VALUES (now(), 'd0-0', 'documentation-keeper',"
                " %s, %s, %s, %s, %s, '')",
                (f"e{seq}", kind, text, number, time),
            )
    await migrate(database)
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC") as people:
        async with AuditStore(database) as store:
            await store.write(batch(0, 1, [outcome()]))
            assert labels(people) == [("none", "update", "update", None, 1)]
            found = minutes(people, "ratings, complaints, critical_errors, tasks, task_sum_s::float")
            assert found == [(1, 1, 0, 1, 60.0)], "a violation that nobody signed does not count"
            assert await unequal(store) == []


async def test_the_check_finds_a_label_and_a_rating_that_are_counted_wrongly(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome()]))
    await store.write(told(0, feedback("e", label="none", rating=4)))
    people.execute("UPDATE ml_learning.decision_truth_shards SET ratings = 2")
    people.execute("UPDATE ml_learning.decision_label_shards SET decisions = 0")
    assert sorted(each.what for each in await unequal(store)) == ["labels", "truths"]
