"""`pointsman audit` as a command: what it says, with which exit codes, by which settings."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from pointsman.streams.store import AuditStore
from tests.integration.store.helpers import age, behind_the_back, count, days_ago, fill
from tests.support.commands import Ran, here

OLD = 10


def audit(dsn: str, *words: str, **settings: str) -> Ran:
    return here({"dsn": dsn, **settings}, "audit", *words)


@pytest.fixture
async def filled(store: AuditStore, people: psycopg.Connection) -> None:
    """A decision that is old."""
    await fill(store)
    age(people, OLD)


@pytest.mark.usefixtures("filled")
def test_digests_are_made_once_and_verified(migrated: str, people: psycopg.Connection) -> None:
    first = days_ago(people, OLD)
    made = audit(migrated, "digest", "--day", str(first + timedelta(days=1)), "--json").json()
    assert [(each["day"], each["seq"], each["revision"]) for each in made] == [
        (str(first), 1, 1), (str(first + timedelta(days=1)), 2, 1),
    ]  # fmt: skip
    assert made[0]["tables"]["agent_decisions"]["rows"] == 1
    assert made[1]["previous"] == made[0]["digest"]
    rest = audit(migrated, "digest").out.splitlines()
    assert rest[0].startswith(str(first + timedelta(days=2)))
    assert audit(migrated, "digest").out == "nothing to do\n"
    refused = audit(migrated, "digest", "--day", str(days_ago(people, 0)))
    assert refused.code == 1
    assert "has no digest yet: it is settled 15 minutes after it is over" in refused.err

    good = audit(migrated, "verify")
    assert (good.code, good.err) == (0, "")
    assert "8 rows of" in good.out
    assert "2 contents fit; newest digest" in good.out
    behind_the_back(people, "UPDATE ml_learning.agent_decisions SET prediction = 'other'")
    bad = audit(migrated, "verify")
    assert bad.code == 1
    (line,) = [line for line in bad.out.splitlines() if "agent_decisions" in line]
    assert str(first) in line
    assert "other values" in line
    as_json = audit(migrated, "verify", "--json").json()
    assert [(each["day"], each["table"]) for each in as_json["findings"]] == [(str(first), "agent_decisions")]
    assert audit(migrated, "verify", "--from", str(first + timedelta(days=1))).code == 0
    elsewhere = audit(migrated, "verify", "--from", str(first + timedelta(days=1)), "--noted", "ab" * 32)
    assert elsewhere.code == 1
    revised = audit(migrated, "digest", "--day", str(first), "--revise", "a restored copy")
    assert revised.code == 0, revised.err
    again = audit(migrated, "verify")
    assert again.code == 0
    assert "revision 2" in again.out
    assert "a restored copy" in again.out


@pytest.mark.usefixtures("filled")
def test_what_expires_is_said_by_a_setting_and_verify_says_that_it_did(
    migrated: str, people: psycopg.Connection
) -> None:
    audit(migrated, "digest")
    kept = audit(migrated, "expire")
    assert kept.code == 0
    assert "are 0: everything is kept" in kept.err
    dry = audit(migrated, "expire", "--dry-run", audit_retention_days="5")
    assert (
        f"audit of before {days_ago(people, 5)}: would go: 3 decision_feedback, 1 decision_shadows" in dry.out
    )
    assert count(people, "agent_decisions") == 1
    done = audit(migrated, "expire", "--by", "cron", audit_retention_days="5")
    assert done.code == 0, done.err
    assert f"audit of before {days_ago(people, 5)}: deleted: 3 decision_feedback" in done.out
    assert count(people, "agent_decisions") == count(people, "decision_contents") == 0
    good = audit(migrated, "verify")
    assert good.code == 0
    assert f"{days_ago(people, OLD)}: expired on " in good.out
    assert "by cron, after 5 days" in good.out
    assert here({"dsn": migrated}, "db", "check").code == 0
    revised = audit(migrated, "digest", "--day", str(days_ago(people, OLD)), "--revise", "x")
    assert revised.code == 1
    assert "were deleted for their age" in revised.err


@pytest.mark.usefixtures("filled")
def test_forgetting_says_what_it_would_delete_and_what_it_did(migrated: str) -> None:
    dry = audit(migrated, "forget", "--unit", "repo-1", "--dry-run")
    assert dry.out == "would go: 1 decision_contents, 1 feedback_contents\n", dry.err
    assert audit(migrated, "forget", "--decision", "d0-0", "--json").json() == {
        "decision_contents": 1, "feedback_contents": 1,
    }  # fmt: skip
    assert audit(migrated, "forget", "--unit", "repo-1").out == "nothing of it is there\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("forget",), "say whose: --unit, or --decision"),
        (("forget", "--unit", "a", "--decision", "b"), "say whose: --unit, or --decision"),
        (("digest", "--day", "yesterday"), "--day yesterday: expected a day, as in 2026-11-01"),
        (("digest", "--revise", "why"), "--revise: say which day with --day"),
        (("verify", "--from", "1"), "--from 1: expected a day"),
    ],
)
def test_bad_usage_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = audit("host=127.0.0.1 port=1", *words)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
