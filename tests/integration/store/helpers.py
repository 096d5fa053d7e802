"""Short words for the store's tests."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
from msgspec.structs import replace

from pointsman.schemas.outcome import Cause, History, Outcome, Place
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.store import AuditStore, DeadLetter, SinkBatch
from tests.support.outcomes import REQUESTS, START, feedback, outcome, shadow

LANE, CLUSTER, OUTCOMES = "sink", "cluster-1", "decision-outcomes"


def batch(start: int, end: int, outcomes: list[Outcome] | None = None, **changes: Any) -> SinkBatch:
    defaults = {
        "lane": LANE,
        "cluster": CLUSTER,
        "topic": OUTCOMES,
        "partition": 0,
        "outcomes": outcomes or [],
    }
    return SinkBatch(start=start, end=end, **{**defaults, **changes})


def count(connection: psycopg.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM ml_learning.{table}".encode()).fetchone()[0])


async def fill(store: AuditStore, number: int = 0, **changes: Any) -> Outcome:
    """One decision of now and all that can belong to it: every table of the audit has a row at least."""
    at = number * 10
    cause = Cause(reason="try_later", field="input", expected="patience")
    history = History(
        attempts=2, first_error=cause, taken_from=Place(topic="retries", partition=0, offset=at)
    )
    one = replace(outcome(at, **{"decided_at": datetime.now(UTC), **changes}), history=history)
    told = feedback(
        f"e{number}", one.decision_id, label="none", comment="Ann says so", unit=one.unit, rating=4
    )
    ledger = Ledger(topic="retries", partition=0, start=at, end=at + 10, requests=1, outcomes=1)
    letter = DeadLetter(
        reason="not_json", field="value", expected="JSON", topic=REQUESTS, partition=7, offset=at
    )
    kinds: dict[str, dict[str, Any]] = {
        "decision-outcomes": {"outcomes": [one]},
        "decision-shadows": {"shadows": [shadow(at, decision_id=one.decision_id)]},
        "decision-feedback": {"feedback": [told]},
        "decision-summaries": {"summaries": [Summary(at=START, lane="l", ledger=ledger)]},
        "decision-dead-letters": {"dead_letters": [letter]},
    }
    for topic, rows in kinds.items():
        await store.write(batch(number, number + 1, topic=topic, **rows))
    return one


MOMENTS = {
    "agent_decisions": ("known_at", "created_at"),
    "decision_contents": ("created_at",),
    "decision_shadows": ("known_at",),
    "decision_feedback": ("known_at",),
    "feedback_contents": ("known_at",),
    "decision_histories": ("known_at",),
    "lane_ledger": ("known_at",),
    "dead_letters": ("known_at",),
    "audit_deletions": ("known_at",),
    "decision_truths": ("known_at", "minute"),
    "decision_minute_shards": ("minute",),
    "decision_fallback_shards": ("minute",),
    "decision_latency_shards": ("minute",),
    "decision_truth_shards": ("minute",),
    "decision_label_shards": ("minute",),
    "decision_score_shards": ("minute",),
    "decision_confidence_shards": ("minute",),
    "decision_flag_shards": ("minute",),
    "decision_shadow_shards": ("minute",),
}


def behind_the_back(connection: psycopg.Connection, *commands: str) -> None:
    """As somebody does it who may take triggers away."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for command in commands:
            connection.execute(command.encode())


def rewrite(connection: psycopg.Connection, table: str, changes: str) -> None:
    """Change all rows by writing them anew: times may move them into another chunk, which an UPDATE cannot."""
    behind_the_back(
        connection,
        f"CREATE TEMP TABLE apart ON COMMIT DROP AS SELECT * FROM ml_learning.{table}",
        f"UPDATE apart SET {changes}",
        f"DELETE FROM ml_learning.{table}",
        f"INSERT INTO ml_learning.{table} OVERRIDING SYSTEM VALUE SELECT * FROM apart",
    )


def age(connection: psycopg.Connection, days: int) -> None:
    """All that stands there, as if it had been written so many days before."""
    for table, moments in MOMENTS.items():
        rewrite(
            connection,
            table,
            ", ".join(f"{moment} = {moment} - interval '{days * 24} hours'" for moment in moments),
        )


def days_ago(connection: psycopg.Connection, days: int) -> date:
    """A UTC day by the server's clock."""
    found: date = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date").fetchone()[0]
    return found - timedelta(days=days)
