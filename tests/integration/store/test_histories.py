"""What requests went through before their outcome: its rows, and ledgers of delay topics that know them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pointsman.schemas.outcome import Cause, History, Outcome, Place
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.store import AuditStore, read
from pointsman.streams.store.batch import DeadLetter
from pointsman.streams.store.check import ledger_check
from tests.integration.store.helpers import batch
from tests.support.outcomes import REQUESTS, START, outcome

WAITED = "decision-retries-5s"
CAUSE = Cause(reason="try_later", field="inp\0ut", expected="x")


def waited(offset: int, taken: int) -> Outcome:
    place = Place(topic=WAITED, partition=0, offset=taken)
    return outcome(offset, history=History(attempts=2, first_error=CAUSE, taken_from=place))


def ledger(topic: str, start: int, end: int, **counts: int) -> Summary:
    counted = Ledger(topic=topic, partition=0, start=start, end=end, **counts)
    return Summary(at=START, lane="decisions", ledger=counted)


def died(offset: int, taken: int | None = None, **changes: Any) -> DeadLetter:
    place = {"taken_topic": WAITED, "taken_offset": taken} if taken is not None else {}
    given = {"reason": "try_later", "field": "input", "expected": "", "topic": REQUESTS, "partition": 0}
    return DeadLetter(offset=offset, attempt=2, **{**given, **place, **changes})


async def test_a_history_is_written_once_and_read_with_its_decision(
    store: AuditStore, people: psycopg.Connection
) -> None:
    first = Place(topic=REQUESTS, partition=0, offset=1)
    again = outcome(9, history=History(redriven=2, first_place=first, first_error=CAUSE))
    given = [outcome(3), waited(4, 17), again]
    assert (await store.write(batch(0, 3, given))).outcomes == 3
    assert (await store.write(batch(3, 6, given))).duplicates == 3
    rows = people.execute(
        "SELECT request_offset, attempts, first_reason, first_field, w.topic, taken_offset,"
        " redriven, f.topic, first_partition, first_offset FROM ml_learning.decision_histories AS h"
        " LEFT JOIN ml_learning.kafka_topics AS w ON w.id = h.taken_topic_id"
        " LEFT JOIN ml_learning.kafka_topics AS f ON f.id = h.first_topic_id ORDER BY 1"
    ).fetchall()
    assert rows == [
        (4, 2, "try_later", "inp\ufffdut", WAITED, 17, 0, None, None, None),
        (9, 1, "try_later", "inp\ufffdut", None, None, 2, REQUESTS, 0, 1),
    ]
    async with store.connection() as connection:
        found = [await read.decision(connection, each.decision_id) for each in given]
    assert [(d["attempts"], d["first_reason"], d["redriven"]) for d in found if d] == [
        (1, None, 0), (2, "try_later", 0), (1, "try_later", 2),
    ]  # fmt: skip


async def test_histories_are_append_only(store: AuditStore, people: psycopg.Connection) -> None:
    await store.write(batch(0, 1, [waited(4, 17)]))
    for change in ("UPDATE {} SET attempts = 1", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            people.execute(change.format("ml_learning.decision_histories").encode())


RIGHT: dict[str, Any] = {
    "outcomes": [outcome(0), waited(1, 0), outcome(2), waited(3, 2)],
    "dead_letters": [died(4, 4), died(5)],
    "summaries": [
        ledger(REQUESTS, 0, 3, requests=3, outcomes=2, retrying=1),
        ledger(REQUESTS, 3, 6, requests=3, retrying=2, dead_letters=1),
        ledger(WAITED, 0, 2, requests=1, outcomes=1),
        ledger(WAITED, 2, 6, requests=2, outcomes=1, dead_letters=1),
    ],
}


async def differences(store: AuditStore, **changes: Any) -> list[tuple[str, str, Any, Any]]:
    await store.write(batch(0, 1, **{**RIGHT, **changes}))
    async with store.connection() as connection:
        found = await ledger_check(connection, grace_s=0)
    return [
        (each.what, each.where.split(" of ")[0].split(": ")[1], each.expected, each.found) for each in found
    ]


async def test_what_was_waited_for_counts_where_it_was_taken_from(store: AuditStore) -> None:
    assert await differences(store) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"outcomes": RIGHT["outcomes"][:3]}, [("outcomes", f"{WAITED}[0]", 1, 0)]),
        ({"outcomes": [*RIGHT["outcomes"], waited(8, 1)]}, [("outcomes", f"{WAITED}[0]", 1, 2)]),
        ({"outcomes": [*RIGHT["outcomes"], outcome(5)]}, [("outcomes", f"{REQUESTS}[0]", 0, 1)]),
        ({"outcomes": RIGHT["outcomes"][1:]}, [("outcomes", f"{REQUESTS}[0]", 2, 1)]),
        ({"dead_letters": [died(5)]}, [("dead letters", f"{WAITED}[0]", 1, 0)]),
        ({"dead_letters": [died(4, 4), died(5, 5)]}, [
            ("dead letters", f"{REQUESTS}[0]", 1, 0), ("dead letters", f"{WAITED}[0]", 1, 2),
        ]),
    ],
)  # fmt: skip
async def test_a_planted_loss_or_double_is_found_in_its_range(
    store: AuditStore, changes: dict[str, Any], found: list[tuple[str, str, int, int]]
) -> None:
    assert sorted(await differences(store, **changes)) == sorted(found)
