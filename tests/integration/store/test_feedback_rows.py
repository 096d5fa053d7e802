"""Feedback is kept whenever it comes, once, a row a kind; the label known last counts."""

from datetime import timedelta

import psycopg

from pointsman.schemas.feedback import KINDS
from pointsman.schemas.outcome import Answers
from pointsman.streams.store import AuditStore, WriteResult
from pointsman.streams.store.read import decision, labelled
from pointsman.streams.store.truth import FREE_TEXT
from tests.integration.store.helpers import batch, count
from tests.support.outcomes import START, answer, feedback, outcome, shadow

AGENT = "documentation-keeper"


def told(start: int, *events: object) -> object:
    return batch(start, start + len(events), topic="decision-feedback", feedback=events)


async def test_feedback_before_its_decision_is_joined_once_that_comes(store: AuditStore) -> None:
    await store.write(told(0, feedback("e", label="none")))
    async with store.connection() as connection:
        assert await labelled(connection, AGENT) == []
    await store.write(batch(0, 1, [outcome(0)]))
    async with store.connection() as connection:
        (found,) = await labelled(connection, AGENT)
    assert (found.decision_id, found.label, found.served, found.rules, found.ml) == (
        "d0-0",
        "none",
        "update",
        "update",
        None,
    )


async def test_the_same_event_twice_counts_once(store: AuditStore, people: psycopg.Connection) -> None:
    event = feedback("e", label="none", rating=4)
    assert await store.write(told(0, event, event)) == WriteResult(feedback=1, duplicates=1)
    assert await store.write(told(2, event, feedback("e2", rating=5))) == WriteResult(
        feedback=1, duplicates=1
    )
    assert count(people, "decision_feedback") == 3
    assert count(people, "feedback_contents") == count(people, "feedback_events") == 2


async def test_an_event_number_used_for_each_decision_anew_is_another_event(store: AuditStore) -> None:
    events = [feedback("1", "d0-0", rating=4), feedback("1", "d0-1", rating=2)]
    assert await store.write(told(0, *events)) == WriteResult(feedback=2)


async def test_the_label_known_last_counts_whatever_its_sender_says_about_time(store: AuditStore) -> None:
    late = START + timedelta(days=30)
    await store.write(batch(0, 1, [outcome(0)]))
    await store.write(told(0, feedback("e1", label="first", observed_at=late)))
    await store.write(
        told(1, feedback("e2", label="second"), feedback("e3", label="third", observed_at=START))
    )
    async with store.connection() as connection:
        (found,) = await labelled(connection, AGENT)
        everything = await decision(connection, "d0-0")
    assert found.label == "third"
    assert everything is not None
    assert [row["value_text"] for row in everything["feedback"]] == ["first", "second", "third"]


async def test_a_label_of_another_agents_decision_with_that_id_is_not_this_ones(store: AuditStore) -> None:
    await store.write(batch(0, 2, [outcome(0), outcome(1, agent="other", decision_id="d0-0")]))
    await store.write(told(0, feedback("e", label="none", agent="other")))
    async with store.connection() as connection:
        assert await labelled(connection, AGENT) == []
        assert len(await labelled(connection, "other")) == 1


async def test_the_models_answer_comes_from_the_outcome_or_else_from_the_shadow(store: AuditStore) -> None:
    both = Answers(rules=answer(), ml=answer("ml@7", "other", 0.9))
    await store.write(batch(0, 3, [outcome(0), outcome(1, answers=both), outcome(2)]))
    await store.write(batch(0, 2, topic="decision-shadows", shadows=[shadow(0), shadow(1)]))
    await store.write(told(0, *(feedback("e", f"d0-{i}", label="none") for i in range(3))))
    async with store.connection() as connection:
        found = await labelled(connection, AGENT)
    assert [(one.ml, one.ml_in_shadow) for one in found] == [("none", True), ("other", False), (None, False)]


async def test_a_pending_outcome_is_no_answer_yet(store: AuditStore) -> None:
    await store.write(batch(0, 1, [outcome(0, status="pending_approval", revision=0)]))
    await store.write(told(0, feedback("e", label="none")))
    async with store.connection() as connection:
        assert await labelled(connection, AGENT) == []


async def test_every_kind_is_a_row_and_free_text_lies_apart(
    store: AuditStore, people: psycopg.Connection
) -> None:
    values = {
        "label": "none", "rating": 4.5, "comment": "Ann \0says so", "signal": "edited", "task_completed_at": START,
        "task_duration_s": 60.5, "correction": "c1", "complaint": "c2", "critical_error": "c3",
        "safety_violation": "c4", "tokens": 1000, "tool_calls": 3, "tool_calls_correct": 2, "cost": 0.25,
    }  # fmt: skip
    assert set(values) == set(KINDS)
    await store.write(told(0, feedback("e", sender="ann", unit="repo-1", **values)))
    rows = people.execute(
        "SELECT kind, coalesce(value_text, value_number::text, value_time::text) FROM ml_learning.decision_feedback"
    ).fetchall()
    stored = dict(rows)
    assert set(stored) == set(KINDS)
    assert {kind for kind, value in stored.items() if value is None} == FREE_TEXT
    assert (stored["rating"], stored["tokens"], stored["task_completed_at"]) == (
        "4.5",
        "1000",
        f"{START:%Y-%m-%d %X}+00",
    )
    kept = people.execute(
        "SELECT unit, ml_learning.as_jsonb(content) FROM ml_learning.feedback_contents"
    ).fetchone()
    expected = {"sender": "ann", **{kind: values[kind] for kind in FREE_TEXT}, "comment": "Ann \ufffdsays so"}
    assert kept == ("repo-1", expected)


async def test_feedback_is_committed_to_its_content(store: AuditStore, people: psycopg.Connection) -> None:
    await store.write(
        told(0, feedback("e", comment="good", unit="repo-1", sender="ann"), feedback("e2", rating=1))
    )
    rows = people.execute(
        "SELECT f.commitment = ml_learning.commitment(c.salt, c.unit, c.content) FROM ml_learning.decision_feedback f"
        " JOIN ml_learning.feedback_contents c USING (decision_id, event_id)"
    ).fetchall()
    assert rows == [(True,), (True,)]


async def test_deleted_contents_leave_the_feedback_readable(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome(0)]))
    await store.write(told(0, feedback("e", comment="good", rating=5)))
    people.execute("DELETE FROM ml_learning.feedback_contents")
    people.execute("DELETE FROM ml_learning.decision_contents")
    async with store.connection() as connection:
        found = await decision(connection, "d0-0")
    assert found is not None
    assert (found["unit"], found["input"]) == (None, None)
    assert {row["kind"]: row["value_number"] for row in found["feedback"]} == {"comment": None, "rating": 5.0}
