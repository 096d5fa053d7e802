"""What stands in the audit stays as it is: for everybody by triggers, for the service by privileges too."""

from collections.abc import Iterator

import psycopg
import pytest

from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.store import AuditStore, DeadLetter, rollup
from tests.integration.store.helpers import batch, count
from tests.support.outcomes import REQUESTS, START, feedback, outcome, shadow

AUDIT = (
    "agent_decisions", "decision_places", "decision_shadows", "shadow_places", "decision_feedback",
    "feedback_events", "lane_ledger", "dead_letters", "kafka_topics", "audit_digests", "audit_deletions",
)  # fmt: skip
CONTENTS = ("decision_contents", "feedback_contents")


@pytest.fixture
async def filled(store: AuditStore, people: psycopg.Connection) -> None:
    """One row at least in each table."""
    people.execute(
        "INSERT INTO ml_learning.audit_digests (seq, day, revision, form, tables, why, previous, digest, known_at)"
        " VALUES (1, '1999-01-01', 1, 1, '{}', '', '', '', now())"
    )
    people.execute(
        "INSERT INTO ml_learning.audit_deletions (kind, day, deleted, deleted_by) VALUES ('audit', '1999-01-01', '{}', '')"
    )
    letter = DeadLetter(
        reason="not_json", field="value", expected="JSON", topic=REQUESTS, partition=0, offset=9
    )
    await store.write(batch(0, 1, [outcome()]))
    await store.write(batch(0, 1, topic="decision-shadows", shadows=[shadow()]))
    await store.write(batch(0, 1, topic="decision-feedback", feedback=[feedback("e", comment="good")]))
    ledger = Ledger(topic=REQUESTS, partition=0, start=0, end=1, requests=1, outcomes=1)
    await store.write(
        batch(0, 1, topic="decision-summaries", summaries=[Summary(at=START, lane="l", ledger=ledger)])
    )
    await store.write(batch(0, 1, topic="decision-dead-letters", dead_letters=[letter]))


@pytest.fixture
def service(migrated: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("SET ROLE pointsman_service")
        yield connection


def commands(table: str) -> dict[str, bytes]:
    column = {
        "kafka_topics": "topic",
        "lane_ledger": "lane",
        "dead_letters": "reason",
        "feedback_events": "event_id",
        "audit_digests": "why",
        "audit_deletions": "kind",
    }
    name = column.get(table, "partition" if table.endswith("places") else "decision_id")
    return {
        "UPDATE": f"UPDATE ml_learning.{table} SET {name} = {name}".encode(),
        "DELETE": f"DELETE FROM ml_learning.{table}".encode(),
        "TRUNCATE": f"TRUNCATE ml_learning.{table}".encode(),
    }


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("table", AUDIT)
def test_even_the_owner_changes_nothing_in_the_audit(people: psycopg.Connection, table: str) -> None:
    assert count(people, table)
    for name, command in commands(table).items():
        with pytest.raises(
            psycopg.errors.InsufficientPrivilege, match=f"{table} is append-only: {name} is refused"
        ):
            people.execute(command)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("table", [*AUDIT, *CONTENTS])
def test_the_service_lacks_the_very_privilege(service: psycopg.Connection, table: str) -> None:
    assert count(service, table)
    for command in commands(table).values():
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            service.execute(command)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("table", CONTENTS)
def test_contents_can_be_deleted_by_the_privacy_role_and_the_decision_stays(
    people: psycopg.Connection, table: str
) -> None:
    all_commands = commands(table)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only: UPDATE"):
        people.execute(all_commands["UPDATE"])
    people.execute("SET ROLE pointsman_privacy")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        people.execute(all_commands["UPDATE"])
    assert people.execute(all_commands["DELETE"]).rowcount == 1
    people.execute("RESET ROLE")
    row = people.execute("SELECT decision_id, prediction FROM ml_learning.decisions").fetchone()
    assert row == ("d0-0", "update")


@pytest.mark.usefixtures("filled")
def test_the_service_cannot_say_that_something_may_be_deleted(service: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        service.execute(
            "INSERT INTO ml_learning.audit_deletions (kind, day, deleted, deleted_by) VALUES ('audit', '1999-01-01', '{}', '')"
        )


def test_every_table_is_append_only_but_for_a_short_list(people: psycopg.Connection) -> None:
    guarded = people.execute(
        "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'append_only'"
    )
    tables = people.execute(
        "SELECT format('ml_learning.%s', tablename) FROM pg_tables WHERE schemaname = 'ml_learning'"
    )
    free = {name for (name,) in tables} - {name for (name,) in guarded}
    aggregates = [name for table in rollup.TABLES for name in (table.shards, table.sums)]
    changing = ("sink_offsets", "decision_truths", "drift", "drift_counts", *aggregates)
    assert free == {f"ml_learning.{name}" for name in (*changing, "schema_migrations")}


async def test_the_store_works_as_the_service_and_not_as_whoever_logged_in(store: AuditStore) -> None:
    async with store.connection() as connection:
        row = await (await connection.execute("SELECT current_user")).fetchone()
    assert row == ("pointsman_service",)
