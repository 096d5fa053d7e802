"""Figures by the hour are those by the minute, on every edition; quantiles of any window are right within 2 %."""

import math
import random
from datetime import timedelta

import psycopg
import pytest

from pointsman.schemas.outcome import Answers, Timings
from pointsman.streams.store import AuditStore
from tests.integration.store.helpers import batch
from tests.support.outcomes import START, answer, feedback, outcome

PAIRS = {
    "decision_minutes": "decision_hours",
    "decision_fallback_minutes": "decision_fallback_hours",
    "decision_latency_buckets": "decision_latency_hour_buckets",
    "decision_truth_minutes": "decision_truth_hours",
    "decision_label_minutes": "decision_label_hours",
    "decision_accuracy_minutes": "decision_accuracy_hours",
    "decision_score_minutes": "decision_score_hours",
    "decision_confidence_minutes": "decision_confidence_hours",
    "decision_flag_minutes": "decision_flag_hours",
    "decision_agreement_minutes": "decision_agreement_hours",
}
KEYS = {
    "agent_name", "minute", "arm", "reason", "bucket", "label", "served", "rules", "ml", "answer", "said", "band",
    "confidence_from", "flag_version", "flag_percentage",
}  # fmt: skip
HOURS = 5


@pytest.fixture(params=[False, True], ids=["as_written", "rolled_up"])
async def latencies(store: AuditStore, request: pytest.FixtureRequest) -> list[float]:
    """Decisions over some hours, with truth of many of them; their latencies in the order of time."""
    drawn = random.Random(7)
    made = [
        outcome(
            n,
            partition=n % 3,
            arm=drawn.choice(["candidate", "control"]),
            fallback_reason=drawn.choice([None, "model_timeout", "model_error"]),
            answers=Answers(rules=answer(), ml=drawn.choice([None, answer("ml@7", "none")])),
            decided_at=START + timedelta(hours=HOURS * n / 900),
            timings=Timings(total_ms=drawn.lognormvariate(3, 1.5), features_ms=0.1),
        )
        for n in range(900)
    ]
    await store.write(batch(0, 900, made))
    told = [
        feedback(f"e{n}", f"d{n % 3}-{n}", label=drawn.choice(["update", "none"]), rating=4.5, tokens=n)
        for n in range(0, 900, 2)
    ]
    await store.write(batch(0, 450, topic="decision-feedback", feedback=told))
    if request.param:
        assert await store.roll_up() > 0
    return [each.timings.total_ms for each in made]


@pytest.mark.usefixtures("latencies")
def test_hours_add_the_minutes_up(people: psycopg.Connection) -> None:
    for minutes, hours in PAIRS.items():
        columns = people.execute(
            "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'ml_learning'"
            " AND table_name = %s ORDER BY ordinal_position",
            (minutes,),
        ).fetchall()
        names = [name for (name,) in columns]
        keys = ["date_trunc('hour', minute)" if name == "minute" else name for name in names if name in KEYS]
        sums = [f"sum({name})" for name in names if name not in KEYS]
        added = people.execute(
            f"SELECT {', '.join(keys + sums)} FROM ml_learning.{minutes} GROUP BY {', '.join(keys)}".encode()
        ).fetchall()
        found = people.execute(f"SELECT * FROM ml_learning.{hours}".encode()).fetchall()
        assert sorted(found, key=str) == sorted(added, key=str), hours
        assert len({row[1] for row in found}) >= HOURS, hours


def test_quantiles_over_hours_are_right_within_two_percent(
    people: psycopg.Connection, latencies: list[float]
) -> None:
    begin = START.replace(minute=0, second=0)
    for window in [(0, 1), (1, 4), (0, HOURS + 1)]:
        since, until = (begin + timedelta(hours=hours) for hours in window)
        inside = sorted(
            latency
            for n, latency in enumerate(latencies)
            if since <= START + timedelta(hours=HOURS * n / 900) < until
        )
        for q in (0.5, 0.95, 0.99):
            row = people.execute(
                "SELECT ml_learning.latency_quantile_ms(array_agg(bucket), array_agg(decisions), %s)"
                " FROM ml_learning.decision_latency_hour_buckets WHERE hour >= %s AND hour < %s",
                (q, since, until),
            ).fetchone()
            assert row == (pytest.approx(inside[math.ceil(q * len(inside)) - 1], rel=0.02),)


@pytest.mark.usefixtures("latencies")
def test_the_service_may_read_the_hours(people: psycopg.Connection) -> None:
    people.execute("SET ROLE pointsman_service")
    for hours in PAIRS.values():
        assert people.execute(f"SELECT count(*) > 0 FROM ml_learning.{hours}".encode()).fetchone() == (True,)


async def test_a_label_that_was_taken_back_leaves_no_row(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome()]))
    for n, label in enumerate(["update", "none"]):
        events = [feedback(f"e{n}", label=label)]
        await store.write(batch(n, n + 1, topic="decision-feedback", feedback=events))
    rows = people.execute("SELECT label, decisions FROM ml_learning.decision_label_hours").fetchall()
    assert rows == [("none", 1)]
