"""`pointsman db`: what would run, what stands there, and whether all figures say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg

from pointsman.streams.store import AuditStore, edition
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
    steps = edition.steps(await edition.look(database), edition.Wanted())
    texts = [f"-- {last.version:04}_{last.name}\n{last.sql}", *(f"-- {s.name}\n{s.sql}\n" for s in steps)]
    assert planned.stdout.strip() == "\n".join(texts).strip()
    as_json = json.loads(db(database, "migrate", "--plan", "--json").stdout)
    assert [each["name"] for each in as_json["planned"]] == [last.name]
    assert [each["name"] for each in as_json["steps"]] == [step.name for step in steps]
    assert db(database, "status").returncode == 1, "still pending"
    done = [f"applied {last.version:04}_{last.name}", *(f"made {step.name}" for step in steps)]
    assert db(database, "migrate").stdout.splitlines()[: len(done)] == done
    assert db(database, "migrate", "--plan").stdout == "nothing to do\n"
    assert db(database, "status").returncode == 0


async def test_status_names_the_edition_and_what_is_missing_of_it(database: str) -> None:
    await migrate(database)
    before = edition.steps(await edition.look(database), edition.Wanted())
    assert db(database, "status").returncode == (1 if before else 0)
    assert db(database, "migrate").returncode == 0
    said = db(database, "status", "--json")
    assert said.returncode == 0, said.stdout
    found, server = json.loads(said.stdout), (await edition.look(database)).server
    assert (found["edition"], found["version"]) == (server.edition, server.installed)
    assert {each["state"] for each in found["migrations"]} == {"applied"}
    features = {each["name"]: each for each in found["features"]}
    assert list(features) == list(edition.FEATURES)
    expected = {
        "postgresql": ["unavailable"] * 5,
        "apache": ["present", "present", *["unavailable"] * 3],
        "timescale": ["present"] * 4 + ["off"],
    }[server.edition]
    assert [each["state"] for each in features.values()] == expected
    assert all(each["way"] for each in features.values() if each["state"] != "present")
    shown = db(database, "status").stdout
    assert edition.SHOWN[server.edition] in shown
    assert "retention" in shown


async def test_minutes_that_retention_may_have_taken_are_not_compared(
    migrated: str, store: AuditStore, people: psycopg.Connection
) -> None:
    old = outcome(0, decided_at=datetime.now(UTC) - timedelta(days=40))
    await store.write(batch(0, 2, [old, outcome(1, decided_at=datetime.now(UTC))]))
    for table in ("decision_minute_shards", "decision_latency_shards"):
        people.execute(f"DELETE FROM ml_learning.{table} WHERE minute < now() - interval '30 days'".encode())
    assert db(migrated, "check").returncode == 1
    assert db(migrated, "check", "--set", "aggregate_retention_days=30").returncode == 0
    people.execute("DELETE FROM ml_learning.decision_minute_shards")
    assert db(migrated, "check", "--set", "aggregate_retention_days=30").returncode == 1


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
