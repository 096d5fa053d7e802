"""`pointsman db`: what would run, what stands there, and whether all figures say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psycopg

from pointsman.streams.store import AuditStore
from pointsman.streams.store.migrate import migrate, migrations
from tests.integration.store.helpers import batch
from tests.support.outcomes import feedback, outcome

COMMAND = [sys.executable, "-P", "-m", "pointsman.streams.cli", "db"]


def db(dsn: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "POINTSMAN_DSN": dsn, "COLUMNS": "200"}
    return subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


async def test_the_plan_is_the_sql_that_would_run_and_changes_nothing(database: str) -> None:
    await migrate(database, migrations()[:-1])
    planned = db(database, "migrate", "--plan")
    assert planned.returncode == 0, planned.stderr
    last = migrations()[-1]
    assert planned.stdout.strip() == f"-- {last.version:04}_{last.name}\n{last.sql}".strip()
    as_json = json.loads(db(database, "migrate", "--plan", "--json").stdout)
    assert [each["name"] for each in as_json["planned"]] == [last.name]
    assert db(database, "status").returncode == 1, "still pending"
    assert db(database, "migrate").stdout == f"applied {last.version:04}_{last.name}\n"
    assert db(database, "migrate", "--plan").stdout == "nothing to do\n"
    assert db(database, "status").returncode == 0


async def test_a_check_of_a_good_database_says_so_and_one_of_a_bad_one_says_what_differs(
    migrated: str, store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 1, [outcome()]))
    events = {"topic": "decision-feedback", "feedback": [feedback("e", label="none", rating=4)]}
    await store.write(batch(0, 1, **events))
    good = db(migrated, "check")
    assert (good.returncode, good.stdout) == (0, "ledgers and figures equal the audit\n"), good.stderr
    assert json.loads(db(migrated, "check", "--json").stdout) == []

    people.execute("UPDATE ml_learning.decision_minute_shards SET by_ml = by_ml + 1")
    people.execute("UPDATE ml_learning.decision_label_shards SET decisions = 2")
    bad = db(migrated, "check", "--json")
    assert bad.returncode == 1
    assert {each["what"] for each in json.loads(bad.stdout)} == {"minutes", "labels"}
    shown = db(migrated, "check")
    assert shown.returncode == 1
    assert "documentation-keeper" in shown.stdout
    assert "labels" in shown.stdout


async def test_tables_that_are_not_there_are_an_error_that_says_what_to_do(database: str) -> None:
    found = db(database, "check")
    assert found.returncode == 3
    assert "pointsman db migrate" in found.stderr
    assert "Traceback" not in found.stderr
