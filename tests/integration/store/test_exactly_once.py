"""A range of a partition is written once: repeats, crashes, stalls and rivals change nothing."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from aiokafka import TopicPartition

from pointsman.schemas.outcome import Outcome, Place
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.sink import Database
from pointsman.streams.store import AuditStore, DeadLetter, OffsetConflict, StoreUnavailable, WriteResult
from pointsman.streams.store.audit import lock_name
from pointsman.streams.store.check import aggregates_check
from tests.integration.store.helpers import CLUSTER, LANE, OUTCOMES, batch, count
from tests.support.outcomes import REQUESTS, START, answer, feedback, outcome, shadow

PARTITION = (LANE, CLUSTER, OUTCOMES, 0)


async def test_a_position_is_unknown_and_then_the_end_of_the_last_batch(store: AuditStore) -> None:
    assert await store.position(*PARTITION) is None
    assert await store.write(batch(5, 8, [outcome(1), outcome(2)])) == WriteResult(outcomes=2)
    assert await store.position(*PARTITION) == 8
    assert await store.write(batch(8, 20)) == WriteResult()
    assert await store.take_over(*PARTITION) == 20


async def test_the_same_batch_again_is_refused_whole(store: AuditStore, people: psycopg.Connection) -> None:
    await store.write(batch(0, 2, [outcome(0), outcome(1)]))
    with pytest.raises(OffsetConflict, match="does not stand at 0"):
        await store.write(batch(0, 2, [outcome(0), outcome(1)]))
    with pytest.raises(OffsetConflict):
        await store.write(batch(1, 4, [outcome(3)]))
    assert count(people, "agent_decisions") == 2


async def test_lanes_clusters_topics_and_their_generations_have_positions_of_their_own(
    store: AuditStore,
) -> None:
    await store.write(batch(0, 5))
    for changes in (
        {"lane": "other"},
        {"cluster": "c2"},
        {"topic": "t2"},
        {"partition": 1},
        {"topic_generation": "g"},
    ):
        await store.write(batch(0, 5, **changes))


@pytest.mark.parametrize(
    "step",
    ["writes._add_minutes", "writes.shadows", "feedback.write", "writes.ledgers", "writes.dead_letters"],
)
async def test_a_crash_before_the_commit_leaves_nothing(
    store: AuditStore, people: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError

    ledger = Ledger(topic=REQUESTS, partition=0, start=0, end=1, requests=1, outcomes=1)
    everything = {
        "shadows": [shadow()],
        "feedback": [feedback("e", rating=1)],
        "summaries": [Summary(at=START, lane="decisions", ledger=ledger)],
        "dead_letters": [
            DeadLetter(
                reason="not_json", field="value", expected="JSON", topic=REQUESTS, partition=0, offset=9
            )
        ],
    }
    with monkeypatch.context() as patched:
        patched.setattr(f"pointsman.streams.store.{step}", crash)
        with pytest.raises(RuntimeError):
            await store.write(batch(0, 1, [outcome()], **everything))
    for table in ("decision_shadows", "decision_feedback", "lane_ledger", "dead_letters"):
        assert count(people, table) == 0
    assert count(people, "agent_decisions") == count(people, "decision_places") == 0
    assert await store.position(*PARTITION) is None
    assert await store.write(batch(0, 1, [outcome()])) == WriteResult(outcomes=1)


async def test_of_two_writers_of_one_range_exactly_one_wins(
    migrated: str, people: psycopg.Connection
) -> None:
    async with AuditStore(migrated) as one, AuditStore(migrated) as other:
        for start in range(0, 50, 10):
            given = batch(start, start + 10, [outcome(i) for i in range(start, start + 10)])
            results = await asyncio.gather(one.write(given), other.write(given), return_exceptions=True)
            assert sorted(type(result).__name__ for result in results) == ["OffsetConflict", "WriteResult"]
    assert count(people, "agent_decisions") == 50


async def test_a_request_that_was_decided_twice_is_kept_as_it_was_first(
    store: AuditStore, people: psycopg.Connection
) -> None:
    await store.write(batch(0, 3, [outcome(0), outcome(1), outcome(2)]))
    again = [outcome(i, decided_at=START + timedelta(hours=1), prediction="later") for i in (1, 2, 3, 3)]
    assert await store.write(batch(3, 7, again)) == WriteResult(outcomes=1, duplicates=3)
    assert await store.write(batch(7, 9, again[:2])) == WriteResult(duplicates=2)
    rows = people.execute(
        "SELECT request_offset, prediction FROM ml_learning.agent_decisions ORDER BY 1"
    ).fetchall()
    assert rows == [(0, "update"), (1, "update"), (2, "update"), (3, "later")]
    assert count(people, "decision_contents") == count(people, "decision_places") == 4
    async with store.connection() as connection:
        assert await aggregates_check(connection) == []


async def test_pending_and_final_outcome_of_a_request_are_two_rows(
    store: AuditStore, people: psycopg.Connection
) -> None:
    pending = outcome(0, status="pending_approval", revision=0)
    assert await store.write(batch(0, 2, [pending, outcome(0)])) == WriteResult(outcomes=2)
    assert await store.write(batch(2, 4, [pending, outcome(0)])) == WriteResult(duplicates=2)
    row = people.execute("SELECT decisions, pending FROM ml_learning.decision_minutes").fetchone()
    assert row == (1, 1)


async def test_another_request_at_the_place_of_one_before_is_written(store: AuditStore) -> None:
    # A topic that was deleted and made anew counts its offsets from 0 again.
    await store.write(batch(0, 1, [outcome(0)]))
    assert await store.write(batch(1, 2, [outcome(0, content_hash="ff" * 8)])) == WriteResult(outcomes=1)


async def test_the_same_place_of_another_cluster_is_another_request(store: AuditStore) -> None:
    await store.write(batch(0, 1, [outcome(0)]))
    assert await store.write(batch(0, 1, [outcome(0)], cluster="c2")) == WriteResult(outcomes=1)


async def test_shadows_ledgers_and_dead_letters_count_once(
    store: AuditStore, people: psycopg.Connection
) -> None:
    ledger = Ledger(topic=REQUESTS, partition=0, start=0, end=1, requests=1, dead_letters=1)
    letter = DeadLetter(
        reason="not_json", field="value", expected="J\0N", topic=REQUESTS, partition=0, offset=9
    )
    shadows = [shadow(0), shadow(0, answer=answer("ml@8")), shadow(1)]
    for start in (0, 1):
        first = start == 0
        assert await store.write(batch(start, start + 1, topic="s", shadows=shadows)) == (
            WriteResult(shadows=3) if first else WriteResult(duplicates=3)
        )
        summaries = [Summary(at=START, lane="decisions", ledger=ledger), Summary(at=START, lane="decisions")]
        assert await store.write(batch(start, start + 1, topic="l", summaries=summaries)) == (
            WriteResult(ledgers=1) if first else WriteResult(duplicates=1)
        )
        assert await store.write(batch(start, start + 1, topic="d", dead_letters=[letter])) == (
            WriteResult(dead_letters=1) if first else WriteResult(duplicates=1)
        )
    assert [count(people, name) for name in ("decision_shadows", "lane_ledger", "dead_letters")] == [3, 1, 1]
    partly = [shadow(1), shadow(2), shadow(2)]
    assert await store.write(batch(2, 5, topic="s", shadows=partly)) == WriteResult(shadows=1, duplicates=2)


async def test_a_new_owner_ends_what_a_stalled_one_left_open(
    migrated: str, people: psycopg.Connection
) -> None:
    stalled = asyncio.Event()
    never = asyncio.Event()

    async def stall(*_: object, **__: object) -> list[Outcome]:
        stalled.set()
        await never.wait()
        return []

    async with AuditStore(migrated) as old, AuditStore(migrated, deadline_s=20) as new:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("pointsman.streams.store.writes.outcomes", stall)
            task = asyncio.create_task(old.write(batch(0, 1, [outcome(0)])))
            await stalled.wait()
        assert await new.take_over(*PARTITION) is None
        assert await new.write(batch(0, 1, [outcome(0)])) == WriteResult(outcomes=1)
        never.set()
        with pytest.raises(StoreUnavailable):
            await task
        with pytest.raises(OffsetConflict):
            await old.write(batch(0, 1, [outcome(0)]))
    assert count(people, "agent_decisions") == 1


async def test_a_new_owner_ends_an_old_one_that_stalled_in_the_middle_of_its_rows(migrated: str) -> None:
    async with AuditStore(migrated, deadline_s=20) as new:
        await new.write(batch(0, 1, [outcome(0)]))
        with pytest.raises(psycopg.OperationalError), psycopg.connect(migrated) as stalled:
            lock = (lock_name(LANE, CLUSTER, OUTCOMES), 0)
            stalled.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", lock)
            with stalled.cursor().copy("COPY ml_learning.decision_places FROM STDIN") as rows:
                rows.write("1\t0\t5\t1\t")
                tp = TopicPartition(OUTCOMES, 0)
                opened = await Database(new, tp, CLUSTER, "", "no broker").open()
                assert opened.positions == {tp: 1}
                assert await new.write(batch(1, 2, [outcome(1)])) == WriteResult(outcomes=1)


async def test_a_new_owner_leaves_the_writers_of_other_partitions_alone(migrated: str) -> None:
    stalled = asyncio.Event()
    go_on = asyncio.Event()

    async def wait(*_: object, **__: object) -> list[Outcome]:
        stalled.set()
        await go_on.wait()
        return []

    async with AuditStore(migrated) as store, AuditStore(migrated) as new:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("pointsman.streams.store.writes.outcomes", wait)
            task = asyncio.create_task(store.write(batch(0, 1, [outcome(0)], partition=1)))
            await stalled.wait()
        await new.take_over(*PARTITION)
        go_on.set()
        assert await task == WriteResult()


async def test_a_topic_is_numbered_once_and_its_number_is_not_used_up(
    migrated: str, people: psycopg.Connection
) -> None:
    for number in range(3):
        async with AuditStore(migrated) as store:
            await store.write(batch(number, number + 1, [outcome(number)]))
    async with AuditStore(migrated) as store:
        await store.write(batch(3, 4, [outcome(0, place=Place(topic="other", partition=0, offset=0))]))
    rows = people.execute("SELECT id, cluster, topic FROM ml_learning.kafka_topics ORDER BY id").fetchall()
    assert rows == [(1, CLUSTER, REQUESTS), (2, CLUSTER, "other")]
