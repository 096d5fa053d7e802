"""The drift watch on a real database: what the sink counts is what the outcomes say, once; what moved is said, alone."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from aiokafka import TopicPartition
from msgspec import Raw, json
from msgspec.structs import replace

from pointsman.models import drift
from pointsman.models.drift import SCORE, Limits
from pointsman.models.watch import Watched
from pointsman.schemas.outcome import Answers, Outcome, Place, ShadowAnswer
from pointsman.streams.output import Committed, Record
from pointsman.streams.settings import Settings
from pointsman.streams.sink_work import SinkWork
from pointsman.streams.store import AuditStore, OffsetConflict, SinkBatch
from pointsman.streams.store.drift import Drifted, Watch
from pointsman.streams.topics import Names
from tests.integration.store.helpers import CLUSTER, batch
from tests.support.outcomes import answer, outcome, shadow

AGENT = "documentation-keeper"
FEATURES = ("files", "added", "is_fix")
NAMES = Names.of(Settings())
LIMITS = Limits(decisions=200)
NOW = datetime.now(UTC)


def rows(n: int, seed: int, shift: float = 0.0) -> Any:
    """Features as an agent has them."""
    drawn = np.random.default_rng(seed)
    return np.column_stack([drawn.poisson(3, n), drawn.exponential(20, n) + shift, drawn.random(n) < 0.3])


def scores(n: int, seed: int) -> Any:
    return np.random.default_rng(seed + 1).beta(2, 5, n).round(6)


WATCHED = Watched(
    agent=AGENT,
    model="7",
    feature_version="2",
    feature_names=FEATURES,
    reference=drift.reference(FEATURES, rows(20_000, 0), scores(20_000, 0)),
)
WATCH = Watch([WATCHED], 50.0)


@asynccontextmanager
async def watching(dsn: str, watched: Watched = WATCHED) -> AsyncIterator[AuditStore]:
    """A store as the sink opens it."""
    async with AuditStore(dsn, watch=Watch([watched], 50.0)) as store:
        yield store


def decided(n: int, seed: int, shift: float = 0.0) -> tuple[list[Outcome], list[ShadowAnswer]]:
    """Decisions of now, one in three answered by the model, the others' answers as shadows."""
    outcomes, shadows = [], []
    for i, (row, score) in enumerate(
        zip(rows(n, seed, shift).tolist(), scores(n, seed).tolist(), strict=True)
    ):
        ml = answer("ml@7", "update" if score >= 0.5 else "none", score)
        known = i % 3 == 0
        outcomes.append(
            outcome(
                i,
                decided_at=NOW,
                features=Raw(json.encode(dict(zip(FEATURES, row, strict=True)))),
                answers=Answers(rules=answer(), ml=ml if known else None),
            )
        )
        if not known:
            shadows.append(shadow(i, answer=ml, answered_at=NOW))
    return outcomes, shadows


def recomputed(outcomes: Sequence[Outcome], shadows: Sequence[ShadowAnswer]) -> dict[str, list[int]]:
    """The same counts, one by one from the messages."""
    values: dict[str, list[float]] = {name: [] for name in (*FEATURES, SCORE)}
    for each in outcomes:
        if WATCH.sampled(each.decision_id):
            for name, value in json.decode(each.features).items():
                values[name].append(value)
            if each.answers.ml is not None:
                values[SCORE].append(each.answers.ml.score)
    values[SCORE] += [each.answer.score for each in shadows if WATCH.sampled(each.decision_id)]
    found = {}
    for bins in WATCHED.reference.bins:
        places = Counter(np.digitize(values[bins.feature], bins.edges, right=True).tolist())
        found[bins.feature] = [places[i] for i in range(len(bins.counts))]
    return found


def counted(people: psycopg.Connection) -> dict[str, list[int]]:
    """What stands in the database, over all hours and partitions."""
    stored = people.execute("SELECT counts FROM ml_learning.drift_counts").fetchall()
    summed = np.sum([counts for (counts,) in stored], axis=0).tolist()
    found, start = {}, 0
    for bins in WATCHED.reference.bins:
        found[bins.feature] = summed[start : start + len(bins.counts)]
        start += len(bins.counts)
    assert start == len(summed)
    return found


async def sink(topic: str, messages: Sequence[Any], position: int = 0) -> SinkBatch:
    """The batch that the sink's own work makes of records."""
    tp = TopicPartition(topic, 0)
    work = SinkWork(tp, NAMES, CLUSTER, 4, 100_000)
    await work.restore(Committed({tp: position}))
    records = [
        Record(topic, 0, position + i, 0, 0, None, json.encode(each)) for i, each in enumerate(messages)
    ]
    output = await work.process({tp: records}, final=False)
    assert isinstance(output.payload, SinkBatch)
    return output.payload


async def written(store: AuditStore, n: int, seed: int, shift: float = 0.0) -> None:
    outcomes, shadows = decided(n, seed, shift)
    await store.write(await sink(NAMES.outcomes, outcomes))
    await store.write(await sink(NAMES.shadows, shadows))


def verdicts(found: Sequence[Drifted]) -> dict[str, str]:
    return {each.drift.feature: each.drift.verdict for each in found}


async def test_what_the_sink_counts_is_what_the_messages_say(
    migrated: str, people: psycopg.Connection
) -> None:
    outcomes, shadows = decided(1_200, 1)
    half = len(outcomes) // 2
    async with watching(migrated) as store:
        await store.write(await sink(NAMES.outcomes, outcomes[:half]))
        await store.write(await sink(NAMES.shadows, shadows))
        await store.write(await sink(NAMES.outcomes, outcomes[half:], half))
    expected = recomputed(outcomes, shadows)
    assert counted(people) == expected
    assert 500 < sum(expected["files"]) < 700
    assert sum(expected[SCORE]) == sum(expected["files"])


async def test_what_comes_again_is_counted_once(migrated: str, people: psycopg.Connection) -> None:
    """A batch that was written, one that was cut anew after a restart, and outcomes that were sent twice."""
    outcomes, shadows = decided(600, 2)
    first = await sink(NAMES.outcomes, outcomes[:400])
    async with watching(migrated) as store:
        await store.write(first)
        with pytest.raises(OffsetConflict):
            await store.write(first)
        await store.write(await sink(NAMES.shadows, shadows[:200]))
    async with watching(migrated) as store:
        at = await store.position("sink", CLUSTER, NAMES.outcomes, 0)
        assert at == 400
        result = await store.write(await sink(NAMES.outcomes, outcomes[200:], at))
        assert result.duplicates == 200
        result = await store.write(await sink(NAMES.shadows, shadows[100:], 200))
        assert result.duplicates == 100
        result = await store.write(await sink(NAMES.outcomes, outcomes, at + 400))
        assert result.outcomes == 0
    assert counted(people) == recomputed(outcomes, shadows)


async def test_counts_go_with_the_rows_or_not_at_all(migrated: str, people: psycopg.Connection) -> None:
    people.execute("ALTER TABLE ml_learning.drift_counts ADD CONSTRAINT none_ CHECK (shard <> 1)")
    outcomes, _ = decided(100, 2)
    elsewhere = [replace(each, place=replace_partition(each.place)) for each in outcomes]
    async with watching(migrated) as store:
        with pytest.raises(psycopg.errors.CheckViolation):
            await store.write(batch(0, 100, elsewhere))
        assert await store.position("sink", CLUSTER, NAMES.outcomes, 0) is None
    assert people.execute("SELECT count(*) FROM ml_learning.agent_decisions").fetchone() == (0,)


def replace_partition(place: Place) -> Place:
    return replace(place, partition=1)


async def test_a_stream_like_the_training_part_is_stable(migrated: str, people: psycopg.Connection) -> None:
    async with watching(migrated) as store:
        await written(store, 1_200, 3)
        found = await store.drifts(LIMITS, 24)
    assert verdicts(found) == dict.fromkeys((*FEATURES, SCORE), "stable")
    told = people.execute(
        "SELECT feature, verdict, n, effect, p, edges, expected, counts, window_hours, window_end - now() <= '1 hour'"
        " FROM ml_learning.drift_now"
    ).fetchall()
    known = {each.feature: each for each in WATCHED.reference.bins}
    assert {row[0] for row in told} == set(known)
    by_feature = {each.drift.feature: each.drift for each in found}
    counts = counted(people)
    for feature, verdict, n, effect, p, edges, expected, observed, hours, soon in told:
        each = by_feature[feature]
        assert (verdict, n, effect, p) == (each.verdict, each.n, each.effect, each.p)
        assert (tuple(edges), tuple(expected)) == (known[feature].edges, known[feature].counts)
        assert observed == counts[feature]
        assert (hours, soon) == (24, True)


async def test_what_moved_is_found_and_nothing_else(migrated: str) -> None:
    async with watching(migrated) as store:
        await written(store, 1_200, 4, shift=25.0)
        found = await store.drifts(LIMITS, 24)
    assert verdicts(found) == {"files": "stable", "added": "drifted", "is_fix": "stable", SCORE: "stable"}


async def test_few_decisions_say_nothing_and_none_write_nothing(
    migrated: str, people: psycopg.Connection
) -> None:
    async with watching(migrated) as store:
        assert await store.drifts(LIMITS, 24) == []
        await written(store, 100, 4, shift=25.0)
        found = await store.drifts(LIMITS, 24)
    assert set(verdicts(found).values()) == {"too_few"}
    assert people.execute("SELECT DISTINCT verdict FROM ml_learning.drift").fetchall() == [("too_few",)]


async def test_only_the_hours_of_the_window_count_and_later_they_go(
    migrated: str, people: psycopg.Connection
) -> None:
    outcomes, _ = decided(1_200, 5, shift=25.0)
    old = [replace(each, decided_at=NOW - timedelta(hours=30)) for each in outcomes[:600]]
    async with watching(migrated) as store:
        await store.write(batch(0, 600, old))
        assert await store.drifts(LIMITS, 24) == []
        assert len(await store.drifts(LIMITS, 48)) == len(FEATURES) + 1
        await store.forget_drift(24, 0)
        hours = "SELECT count(*) FROM ml_learning.drift_counts"
        assert people.execute(hours.encode()).fetchone() == (1,)
        await store.forget_drift(2, 0)
        assert people.execute(hours.encode()).fetchone() == (0,)
        told = "SELECT count(*) FROM ml_learning.drift"
        people.execute("UPDATE ml_learning.drift SET window_end = window_end - interval '3 days'")
        await store.forget_drift(24, 4)
        assert people.execute(told.encode()).fetchone() == (len(FEATURES) + 1,)
        await store.forget_drift(24, 2)
        assert people.execute(told.encode()).fetchone() == (0,)


async def test_workers_that_look_at_once_leave_one_row_a_feature(
    migrated: str, people: psycopg.Connection
) -> None:
    """And one that saw less does not write over what another knows."""
    async with watching(migrated) as one, watching(migrated) as two:
        await written(one, 600, 6)
        looks = await asyncio.gather(*(each.drifts(LIMITS, 24) for each in (one, two) * 3))
        assert all(look == looks[0] for look in looks)
    rows_ = people.execute("SELECT feature, n FROM ml_learning.drift ORDER BY feature").fetchall()
    assert [feature for feature, _ in rows_] == sorted((*FEATURES, SCORE))
    people.execute("UPDATE ml_learning.drift SET n = n + 1, verdict = 'drifted'")
    async with watching(migrated) as store:
        await store.drifts(LIMITS, 24)
    assert people.execute("SELECT DISTINCT verdict FROM ml_learning.drift").fetchall() == [("drifted",)]


async def test_a_new_reference_begins_anew(migrated: str, people: psycopg.Connection) -> None:
    other = drift.reference(FEATURES, rows(20_000, 0, 25.0), scores(20_000, 0))
    async with watching(migrated) as store:
        await written(store, 600, 7)
    again = Watched(agent=AGENT, model="7", feature_version="2", feature_names=FEATURES, reference=other)
    async with watching(migrated, again) as store:
        assert await store.drifts(LIMITS, 24) == []
        outcomes, _ = decided(600, 8)
        moved = [replace(each, place=replace_partition(each.place)) for each in outcomes]
        await store.write(batch(600, 1_200, moved))
        assert verdicts(await store.drifts(LIMITS, 24))["added"] == "drifted"
    known = people.execute("SELECT count(DISTINCT reference) FROM ml_learning.drift_counts").fetchone()
    assert known == (2,)


async def test_outcomes_and_later_answers_of_a_partition_do_not_lock_each_other_out(migrated: str) -> None:
    """Both add to the same row, from two partitions of the sink."""
    outcomes, shadows = decided(1_500, 9)
    drawn = random.Random(1)
    drawn.shuffle(shadows)
    async with watching(migrated) as store:

        async def write(topic: str, kind: str, messages: Sequence[Any]) -> None:
            for start in range(0, len(messages), 50):
                piece = messages[start : start + 50]
                end = start + len(piece)
                await store.write(batch(start, end, topic=topic, **{kind: piece}))

        await asyncio.gather(
            write("decision-outcomes", "outcomes", outcomes), write("decision-shadows", "shadows", shadows)
        )
        found = {each.drift.feature: each.drift.n for each in await store.drifts(LIMITS, 24)}
    assert found == {name: sum(counts) for name, counts in recomputed(outcomes, shadows).items()}


async def test_the_service_may_write_and_forget_and_nobody_else_is_asked(
    migrated: str, people: psycopg.Connection
) -> None:
    granted = people.execute(
        "SELECT table_name::text, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
        " FROM information_schema.role_table_grants WHERE grantee = 'pointsman_service'"
        " AND table_name LIKE 'drift%' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert granted == [
        ("drift", "DELETE INSERT SELECT UPDATE"),
        ("drift_counts", "DELETE INSERT SELECT UPDATE"),
        ("drift_now", "SELECT"),
    ]
