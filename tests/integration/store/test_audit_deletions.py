"""What leaves the audit: by age, with a record and nothing younger; and on request what a person could be known by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from pointsman.streams.store import AuditStore, digests, retention
from pointsman.streams.store.check import aggregates_check, ledger_check
from pointsman.streams.store.errors import AuditRefused
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.retention import CONTENTS, Expired, expire, forget_decision, forget_unit
from pointsman.streams.store.verify import verify
from tests.integration.store.helpers import age, batch, behind_the_back, count, days_ago, fill, rewrite
from tests.support.outcomes import feedback, outcome

OLD, YOUNG, KEPT = 10, 3, 5
"""Days: of a decision that goes, of one that stays, and of the setting between them."""
BY_AGE = {
    "agent_decisions", "decision_contents", "decision_shadows", "shadow_places", "decision_feedback",
    "feedback_contents", "feedback_events", "decision_histories", "lane_ledger", "dead_letters",
}  # fmt: skip


@pytest_asyncio.fixture
async def owner(migrated: str) -> AsyncIterator[Connection]:
    """A connection of the data base's owner, for what the program does."""
    async with await psycopg.AsyncConnection.connect(
        migrated, autocommit=True, options="-c timezone=UTC"
    ) as connected:
        yield connected


@pytest_asyncio.fixture
async def three(store: AuditStore, people: psycopg.Connection) -> None:
    """An old decision, a young one and one of now, with all that belongs to them."""
    await fill(store, 0, unit="ann")
    age(people, OLD - YOUNG)
    await fill(store, 1, unit="bob")
    age(people, YOUNG)
    await fill(store, 2, unit="ann")


@pytest.fixture
def privacy(migrated: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("SET ROLE pointsman_privacy")
        yield connection


def all_rows(people: psycopg.Connection) -> dict[str, set[str]]:
    """Every row of every table, as text."""
    names = people.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ml_learning'").fetchall()
    return {
        name: {row for (row,) in people.execute(f"SELECT t::text FROM ml_learning.{name} AS t".encode())}
        for (name,) in names
    }


async def green(owner: Connection) -> bool:
    """Digests, ledgers and figures all fit."""
    found = await verify(owner)
    return found.findings == await ledger_check(owner, 0) == await aggregates_check(owner) == []


# -- by age ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
async def test_what_is_older_goes_whole_and_nothing_younger_and_figures_and_digests_stay(
    people: psycopg.Connection, owner: Connection
) -> None:
    await digests.make(owner)
    assert await green(owner)
    was = all_rows(people)
    async with retention.deleting(owner):
        found = await expire(owner, audit_days=KEPT, content_days=0, by="cron")
    before = days_ago(people, KEPT)
    assert found == [
        Expired("audit", before, {
            "decision_feedback": 3, "decision_shadows": 1, "decision_histories": 1, "dead_letters": 1,
            "lane_ledger": 1, "agent_decisions": 1,
        })
    ]  # fmt: skip
    now = all_rows(people)
    assert {table for table in was if was[table] - now[table]} == BY_AGE
    for table in BY_AGE:
        assert now[table] < was[table]
        assert len(was[table]) - len(now[table]) == len(was[table]) // 3, "that of one of three"
    assert {table for table in was if now[table] - was[table]} == {"audit_deletions"}
    await owner.execute("RESET ROLE")
    report = await verify(owner)
    # Every day up to the last one is recorded, days without a row too.
    days = [each.day for each in report.expired]
    assert (days[0], days[-1]) == (days_ago(people, OLD), days_ago(people, KEPT + 1))
    assert {(each.by, each.retention_days, each.left) for each in report.expired} == {("cron", KEPT, 0)}
    assert await green(owner)
    assert await expire(owner, audit_days=KEPT, content_days=0, by="cron") == [
        Expired("audit", before, dict.fromkeys(found[0].rows, 0))
    ]


@pytest.mark.usefixtures("three")
async def test_a_ledger_that_was_written_later_than_its_outcomes_is_not_held_against_them(
    people: psycopg.Connection, owner: Connection
) -> None:
    later = f"known_at + interval '{(OLD - KEPT) * 24} hours'"
    rewrite(people, "lane_ledger", f"known_at = CASE start_offset WHEN 0 THEN {later} ELSE known_at END")
    await digests.make(owner)
    await expire(owner, audit_days=KEPT, content_days=0, by="cron")
    assert (count(people, "lane_ledger"), count(people, "agent_decisions")) == (3, 2)
    assert await green(owner)


@pytest.mark.usefixtures("three")
async def test_contents_go_by_a_setting_of_their_own_and_their_rows_stay(
    people: psycopg.Connection, owner: Connection
) -> None:
    await digests.make(owner)
    was = all_rows(people)
    async with retention.deleting(owner):
        found = await expire(owner, audit_days=0, content_days=KEPT, by="cron")
    rows = {"decision_contents": 1, "feedback_contents": 1}
    assert found == [Expired("contents", days_ago(people, KEPT), rows)]
    now = all_rows(people)
    assert {table for table in was if was[table] - now[table]} == set(CONTENTS)
    recorded = people.execute(
        "SELECT kind, day, retention_days, deleted, deleted_by FROM ml_learning.audit_deletions ORDER BY seq"
    ).fetchall()
    day = days_ago(people, KEPT + 1)
    assert recorded == [("contents", day, KEPT, {table: 1}, "cron") for table in CONTENTS]
    await owner.execute("RESET ROLE")
    assert await green(owner)


@pytest.mark.usefixtures("three")
async def test_a_day_goes_when_it_has_been_over_for_so_long_and_not_a_day_before(
    people: psycopg.Connection, owner: Connection
) -> None:
    await digests.make(owner, days_ago(people, 2))
    for kept, gone in ((OLD, 0), (OLD - 1, 1), (YOUNG, 0), (YOUNG - 1, 1)):
        (found,) = await expire(owner, audit_days=kept, content_days=0, by="cron")
        assert found.rows["agent_decisions"] == gone, kept


@pytest.mark.usefixtures("three")
async def test_a_dry_run_counts_and_deletes_nothing(people: psycopg.Connection, owner: Connection) -> None:
    await digests.make(owner)
    was = all_rows(people)
    dry = await expire(owner, audit_days=KEPT, content_days=KEPT, by="cron", dry=True)
    assert all_rows(people) == was
    contents, audit = await expire(owner, audit_days=KEPT, content_days=KEPT, by="cron")
    assert dry == [contents, audit]
    assert contents.rows == {"decision_contents": 1, "feedback_contents": 1}


@pytest.mark.usefixtures("three")
async def test_by_default_everything_is_kept(people: psycopg.Connection, owner: Connection) -> None:
    was = all_rows(people)
    assert await expire(owner, audit_days=0, content_days=0, by="cron") == []
    assert all_rows(people) == was


@pytest.mark.usefixtures("three")
async def test_without_a_digest_nothing_goes(people: psycopg.Connection, owner: Connection) -> None:
    was = all_rows(people)
    with pytest.raises(AuditRefused, match=r"no day has a digest.*run `pointsman audit digest` first"):
        await expire(owner, audit_days=KEPT, content_days=KEPT, by="cron")
    first = days_ago(people, OLD)
    await digests.make(owner, first)
    with pytest.raises(AuditRefused, match=f"no day after {first} has a digest"):
        await expire(owner, audit_days=KEPT, content_days=KEPT, by="cron")
    people.execute("SET ROLE pointsman_privacy")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="has no digest, so it stays"):
        people.execute(
            "INSERT INTO ml_learning.audit_deletions (kind, day, deleted, deleted_by) VALUES ('audit', '1999-01-01', '{}', 'x')"
        )
    people.execute("RESET ROLE")
    now = all_rows(people)
    del was["audit_digests"], now["audit_digests"]
    assert now == was


@pytest.mark.usefixtures("three")
async def test_a_day_whose_rows_do_not_fit_its_digest_stays(
    people: psycopg.Connection, owner: Connection
) -> None:
    await digests.make(owner)
    behind_the_back(people, "UPDATE ml_learning.dead_letters SET reason = 'other' WHERE request_offset = 0")
    was = all_rows(people)
    with pytest.raises(AuditRefused, match=f"the rows of {days_ago(people, OLD)} do not fit their digest"):
        await expire(owner, audit_days=KEPT, content_days=KEPT, by="cron")
    assert all_rows(people) == was


@pytest.mark.usefixtures("three")
async def test_a_run_that_was_cut_off_is_finished_by_the_next_one(
    people: psycopg.Connection, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await digests.make(owner)
    delete, calls = retention._delete, []

    async def cut_off(connection: Connection, table: str, piece: Any) -> int:
        calls.append(table)
        if table == "dead_letters":
            raise KeyboardInterrupt
        return await delete(connection, table, piece)

    monkeypatch.setattr(retention, "_delete", cut_off)
    with pytest.raises(KeyboardInterrupt):
        await expire(owner, audit_days=KEPT, content_days=0, by="cron")
    report = await verify(owner)
    assert ([each.left for each in report.expired], report.findings) == ([3], [])
    monkeypatch.undo()
    await expire(owner, audit_days=KEPT, content_days=0, by="cron")
    report = await verify(owner)
    assert ({each.left for each in report.expired}, report.findings) == ({0}, [])
    assert count(people, "agent_decisions") == 2


async def test_no_transaction_deletes_more_than_some_rows_and_all_go(
    store: AuditStore, people: psycopg.Connection, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.write(batch(0, 25, [outcome(number) for number in range(25)]))
    events = [feedback(f"e{number}", f"d0-{number}", rating=4, comment="c") for number in range(25)]
    for number, event in enumerate(events):  # each has a moment of its own
        await store.write(batch(number, number + 1, topic="decision-feedback", feedback=[event]))
    moment = "now() - interval '10 days' + request_offset * interval '1 second'"
    for table, column in (("agent_decisions", "known_at"), ("decision_contents", "created_at")):
        rewrite(people, table, f"{column} = {moment}")
    for table in ("decision_feedback", "feedback_contents"):
        rewrite(people, table, "known_at = known_at - interval '10 days'")
    await digests.make(owner)
    monkeypatch.setattr(retention, "ROWS_MAX", 4)
    sizes: list[int] = []
    delete = retention._delete

    async def measured(connection: Connection, table: str, piece: Any) -> int:
        sizes.append(await delete(connection, table, piece))
        return sizes[-1]

    monkeypatch.setattr(retention, "_delete", measured)
    contents, audit = await expire(owner, audit_days=KEPT, content_days=KEPT, by="cron")
    assert contents.rows == {"decision_contents": 25, "feedback_contents": 25}
    assert (audit.rows["agent_decisions"], audit.rows["decision_feedback"]) == (25, 50)
    # An event's rows of both kinds have one moment, and go together.
    assert max(sizes) <= 4 + 1
    recorded = people.execute(
        "SELECT deleted FROM ml_learning.audit_deletions WHERE kind = 'contents'"
    ).fetchall()
    assert max(max(each.values()) for (each,) in recorded) <= 4
    assert len(recorded) >= 2 * 25 / 4


@pytest.mark.usefixtures("three")
async def test_rows_of_a_recorded_day_can_be_deleted_and_no_others_and_none_changed(
    people: psycopg.Connection, owner: Connection, privacy: psycopg.Connection
) -> None:
    """Whoever may delete for age may not delete what is younger, nor without the record."""
    await digests.make(owner)
    day = days_ago(people, OLD)
    for connection in (people, privacy):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only: DELETE"):
            connection.execute("DELETE FROM ml_learning.dead_letters")
    privacy.execute(
        "INSERT INTO ml_learning.audit_deletions (kind, day, deleted, deleted_by) VALUES ('audit', %s, '{}', 'x')",
        (day,),
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only: DELETE"):
        privacy.execute("DELETE FROM ml_learning.dead_letters")
    for command in (
        "UPDATE ml_learning.dead_letters SET reason = ''",
        "DELETE FROM ml_learning.audit_deletions",
    ):
        for connection in (people, privacy):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(command.encode())
    gone = privacy.execute(
        "DELETE FROM ml_learning.dead_letters WHERE known_at < %s", (days_ago(people, OLD - 1),)
    )
    assert (gone.rowcount, count(people, "dead_letters")) == (1, 2)


# -- by request ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
async def test_of_a_unit_that_is_forgotten_nothing_is_left_and_nothing_else_is_touched(
    store: AuditStore, people: psycopg.Connection, owner: Connection
) -> None:
    # Said of ann's decision without naming her, and of bob's by ann.
    unnamed, named = (
        feedback("u", "d0-0", comment="no unit"),
        feedback("v", "d0-10", comment="ann", unit="ann"),
    )
    other = feedback("w", "d0-0", comment="bob said it", unit="bob")
    await store.write(batch(3, 6, topic="decision-feedback", feedback=[unnamed, named, other]))
    await digests.make(owner)
    was = all_rows(people)
    dry = await forget_unit(owner, "ann", by="officer", dry=True)
    assert all_rows(people) == was
    async with retention.deleting(owner):
        found = await forget_unit(owner, "ann", by="officer")
    assert found == dry == {"decision_contents": 2, "feedback_contents": 4}
    now = all_rows(people)
    assert {table for table in was if was[table] != now[table]} == {*CONTENTS, "audit_deletions"}
    assert not [
        row for rows in now.values() for row in rows if "(ann," in row or ",ann," in row or "ann)" in row
    ]
    assert {len(now[table]) for table in CONTENTS} == {1, 2}
    row = people.execute(
        "SELECT kind, deleted, deleted_by, login, subject = ml_learning.commitment(salt, 'ann', ''),"
        " subject = ml_learning.commitment(salt, 'bob', ''), length(salt) FROM ml_learning.audit_deletions"
    ).fetchall()
    assert row == [("unit", found, "officer", people.info.user, True, False, 16)]
    await owner.execute("RESET ROLE")
    assert await green(owner)
    assert await forget_unit(owner, "ann", by="officer") == dict.fromkeys(CONTENTS, 0)
    assert count(people, "audit_deletions") == 1, "what deletes nothing leaves no record"


@pytest.mark.usefixtures("three")
async def test_one_decision_is_forgotten_by_its_id(people: psycopg.Connection, owner: Connection) -> None:
    was = all_rows(people)
    assert await forget_decision(owner, "d0-10", by="officer", dry=True) == dict.fromkeys(CONTENTS, 1)
    async with retention.deleting(owner):
        assert await forget_decision(owner, "d0-10", by="officer") == dict.fromkeys(CONTENTS, 1)
    now = all_rows(people)
    assert {table: len(was[table] - now[table]) for table in was if was[table] != now[table]} == {
        "decision_contents": 1, "feedback_contents": 1, "audit_deletions": 0,
    }  # fmt: skip
    assert "bob" not in "".join(row for table in CONTENTS for row in now[table])


@pytest.mark.usefixtures("three")
async def test_a_log_in_without_the_role_is_told_which_it_needs(
    migrated: str, people: psycopg.Connection
) -> None:
    was = all_rows(people)
    as_service = psycopg.conninfo.make_conninfo(migrated, options="-c role=pointsman_service")
    async with await psycopg.AsyncConnection.connect(as_service, autocommit=True) as connected:
        with pytest.raises(
            AuditRefused, match=r"permission denied .*the log-in role needs pointsman_privacy"
        ):
            async with retention.deleting(connected):
                await forget_unit(connected, "ann", by="x")
    assert all_rows(people) == was
