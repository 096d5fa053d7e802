"""What is written can be read: one decision in full, an agent's figures, and the ledger against the audit."""

import math
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from msgspec import Raw

from pointsman.schemas.latency import bucket, quantile_ms
from pointsman.schemas.outcome import Answer, Answers, FlagState, Place, Timings, Versions
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.store import AuditStore, DeadLetter
from pointsman.streams.store.check import ledger_check
from pointsman.streams.store.read import decision, summary
from tests.integration.store.helpers import batch
from tests.support.outcomes import REQUESTS, START, answer, feedback, outcome, shadow

AGENT = "documentation-keeper"
FULL = outcome(
    7,
    partition=3,
    decision_id="änderung/7",
    unit="repo-ü",
    source="ml",
    arm="candidate",
    prediction="p",
    confidence=0.123456789,
    reason="r0",
    action="escalate",
    needs_review=True,
    success=False,
    fallback_reason="timeout",
    answers=Answers(
        rules=Answer(decider="rules@1", prediction="rp", score=0.1, confidence=0.2, reason="r1"),
        ml=Answer(decider="ml@2", prediction="mp", score=0.3, confidence=0.4, reason="r2"),
    ),
    flag=FlagState(name="flag", percentage=12.5, version=2**40),
    versions=Versions(pointsman="v1", features="v2", rules="v3", ml="v4"),
    features=Raw(b'{"a": 1.5}'),
    input=Raw(b'{"b" :  [1]}'),
    requested_at=datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
    timings=Timings(total_ms=1.5, features_ms=2.5, model_ms=3.5),
)
EXPECTED = {
    "decision_id": "änderung/7", "agent_name": AGENT, "unit": "repo-ü", "status": "final", "revision": 1,
    "success": False, "source": "ml", "arm": "candidate", "prediction": "p", "confidence": 0.123456789, "reason": "r0",
    "action": "escalate", "needs_review": True, "fallback_reason": "timeout", "rules_decider": "rules@1",
    "rules_prediction": "rp", "rules_score": 0.1, "rules_confidence": 0.2, "rules_reason": "r1", "ml_decider": "ml@2",
    "ml_prediction": "mp", "ml_score": 0.3, "ml_confidence": 0.4, "ml_reason": "r2", "flag_name": "flag",
    "flag_percentage": 12.5, "flag_version": 2**40, "pointsman_version": "v1", "features_version": "v2",
    "rules_version": "v3", "ml_version": "v4", "features": {"a": 1.5}, "input": {"b": [1]},
    "requested_at": datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC), "created_at": START + timedelta(seconds=7),
    "total_ms": 1.5, "features_ms": 2.5, "model_ms": 3.5, "topic": REQUESTS, "cluster": "cluster-1", "topic_id": 1,
    "partition": 3, "request_offset": 7, "content_hash": "0000000700000003", "trace_id": "ab" * 16,
    "attempts": 1, "first_reason": None, "redriven": 0,
}  # fmt: skip


async def test_every_column_of_a_decision_is_read_back(store: AuditStore) -> None:
    await store.write(batch(0, 1, [FULL], trace_ids=["ab" * 16]))
    async with store.connection() as connection:
        found = await decision(connection, "änderung/7")
    assert found is not None
    written = {
        name: found.pop(name)
        for name in ("known_at", "commitment", "revisions", "shadows", "feedback", "input_bytes")
    }
    assert found == EXPECTED
    assert abs(written["known_at"] - datetime.now(UTC)) < timedelta(minutes=5)
    assert len(written["commitment"]) == 32
    assert written["input_bytes"] == b'{"b" :  [1]}', "byte for byte"


async def test_the_commitment_is_to_unit_and_input_byte_for_byte(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 3, [FULL, outcome(0, unit=None), outcome(1, unit="a\0b")]))
    rows = people.execute(
        "SELECT d.commitment = ml_learning.commitment(c.salt, c.unit, c.input), c.input, length(c.salt)"
        " FROM ml_learning.agent_decisions d JOIN ml_learning.decision_contents c USING (decision_id) ORDER BY 2"
    ).fetchall()
    assert rows == [(True, b'{"b" :  [1]}', 16), *[(True, b'{"subject": "add a page"}', 16)] * 2]
    assert people.execute("SELECT count(DISTINCT salt) FROM ml_learning.decision_contents").fetchone() == (3,)


async def test_a_server_that_reads_in_parallel_reads_inputs_too(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 2, [outcome(0), outcome(1)]))
    people.execute("SET parallel_setup_cost = 0")
    people.execute("SET parallel_tuple_cost = 0")
    people.execute("SET min_parallel_table_scan_size = 0")
    plan = people.execute("EXPLAIN SELECT count(*) FROM ml_learning.agent_decisions").fetchall()
    assert "Parallel" in str(plan), "or this test sees nothing"
    rows = people.execute("SELECT count(input) FROM ml_learning.decisions").fetchall()
    assert rows == [(2,)]


async def test_an_unknown_id_is_none(store: AuditStore) -> None:
    async with store.connection() as connection:
        assert await decision(connection, "nobody's") is None


async def test_a_decision_comes_with_its_revisions_shadows_and_feedback(store: AuditStore) -> None:
    pending = outcome(0, status="pending_approval", revision=0, prediction="maybe")
    await store.write(batch(0, 2, [pending, outcome(0, decided_at=START + timedelta(hours=1))]))
    await store.write(batch(0, 1, topic="s", shadows=[shadow(0)]))
    await store.write(batch(0, 1, topic="f", feedback=[feedback("e", comment="fine", sender="ann")]))
    async with store.connection() as connection:
        found = await decision(connection, "d0-0")
    assert found is not None
    assert [row["status"] for row in found["revisions"]] == ["final", "pending_approval"]
    assert [row["prediction"] for row in found["shadows"]] == ["none"]
    assert [(row["kind"], row["value_text"], row["sender"]) for row in found["feedback"]] == [
        ("comment", "fine", "ann")
    ]


async def test_what_producers_may_send_and_postgres_cannot_hold_stops_nothing(store: AuditStore) -> None:
    odd = outcome(
        0,
        decision_id="a\0b",
        unit="\0",
        input=Raw(b'{"x": "\\u0000", "y": "\xff"}'),
        requested_at=datetime(1, 1, 1, tzinfo=UTC) + timedelta(seconds=1),
        reason="\0",
    )
    await store.write(batch(0, 2, [odd, outcome(1, requested_at=datetime.max.replace(tzinfo=UTC))]))
    async with store.connection() as connection:
        found = await decision(connection, "a\0b")
        other = await decision(connection, "d0-1")
    assert found is not None
    assert other is not None
    assert (found["decision_id"], found["unit"], found["input"]) == ("a\ufffdb", "\ufffd", None)
    assert found["requested_at"].year == 1
    assert other["requested_at"].year == 9999


async def test_a_summary_counts_by_source_and_arm(store: AuditStore) -> None:
    ml = answer("ml@7", "update")
    totals = [0.5, 3.0, 7.0, 11.0, 400.0]
    given = [
        outcome(i, timings=Timings(total_ms=total, features_ms=0.1), arm="candidate" if i < 2 else "control")
        for i, total in enumerate(totals)
    ]
    given[0] = outcome(
        0, arm="candidate", source="ml", answers=Answers(rules=answer(), ml=ml), timings=given[0].timings
    )
    given[1] = outcome(
        1, arm="candidate", fallback_reason="timeout", action="escalate", timings=given[1].timings
    )
    await store.write(batch(0, 5, given))
    async with store.connection() as connection:
        found = await summary(connection, AGENT)
        assert (await summary(connection, AGENT, START + timedelta(hours=1))).decisions == 0
        assert (await summary(connection, "nobody")).p50_ms is None
    assert found.by_source == {"ml": 1, "deterministic": 4}
    candidate, control = found.arms
    assert (candidate.arm, candidate.decisions, candidate.by_ml, candidate.fallbacks) == (
        "candidate",
        2,
        1,
        1,
    )
    assert (candidate.escalations, candidate.both_answered, candidate.agreements) == (1, 1, 1)
    assert (control.arm, control.decisions, control.validations, control.confidence_mean) == (
        "control",
        3,
        3,
        0.7,
    )
    assert control.latency_mean_ms == pytest.approx(418 / 3, abs=1e-3)
    assert found.fallbacks == {"timeout": 1}
    histogram = {bucket(total): 1 for total in totals}
    for q, value in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        expected = quantile_ms(histogram, q)
        assert value is not None
        assert expected is not None
        assert math.isclose(value, expected, rel_tol=1e-12)


def ledgers(*ranges: tuple[int, int, dict[str, int]]) -> list[Summary]:
    return [
        Summary(
            at=START,
            lane="decisions",
            ledger=Ledger(topic=REQUESTS, partition=0, start=start, end=end, **counts),
        )
        for start, end, counts in ranges
    ]


async def test_a_ledger_that_agrees_with_the_audit_has_no_differences(store: AuditStore) -> None:
    letter = DeadLetter(
        reason="not_json", field="value", expected="JSON", topic=REQUESTS, partition=0, offset=5
    )
    pending = outcome(2, status="pending_approval", revision=0)
    await store.write(batch(0, 4, [outcome(0), outcome(1), pending, outcome(2)]))
    await store.write(batch(0, 1, topic="d", dead_letters=[letter]))
    told = ledgers(
        (0, 3, {"requests": 3, "outcomes": 2, "pending": 1}),
        (3, 9, {"requests": 2, "dead_letters": 1, "duplicates": 1}),
    )
    await store.write(batch(0, 2, topic="l", summaries=told))
    async with store.connection() as connection:
        assert await ledger_check(connection, grace_s=0) == []


async def test_the_ledger_check_names_holes_overlaps_losses_and_what_is_unaccounted_for(
    store: AuditStore,
) -> None:
    await store.write(batch(0, 1, [outcome(0)]))
    told = ledgers(
        (0, 3, {"requests": 3, "outcomes": 2, "dead_letters": 1}),
        (5, 8, {"requests": 1}),
        (7, 9, {}),
    )
    await store.write(batch(0, 3, topic="l", summaries=told))
    async with store.connection() as connection:
        found = [(one.what, one.expected, one.found) for one in await ledger_check(connection, grace_s=0)]
        waiting = [one.what for one in await ledger_check(connection, grace_s=3600)]
    assert found == [
        ("hole between ranges", 3, 5),
        ("overlapping ranges", 8, 7),
        ("outcomes", 2, 1),
        ("dead letters", 1, 0),
        ("unaccounted requests", 0, 1),
    ]
    assert waiting == ["hole between ranges", "overlapping ranges"]


async def test_the_place_of_one_request_may_be_far_along(store: AuditStore) -> None:
    far = outcome(
        0,
        decision_id="far",
        place=Place(topic=REQUESTS, partition=2**31 - 1, offset=2**62),
        content_hash="f" * 16,
    )
    await store.write(batch(0, 1, [far]))
    async with store.connection() as connection:
        found = await decision(connection, "far")
    assert found is not None
    assert (found["partition"], found["request_offset"], found["content_hash"]) == (
        2**31 - 1,
        2**62,
        "f" * 16,
    )
