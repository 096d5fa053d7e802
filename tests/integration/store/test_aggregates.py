"""Aggregates per minute equal the audit, however the outcomes were cut into batches and repeated."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import count as numbers
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.schemas.latency import bucket, middle_ms, quantile_ms
from pointsman.schemas.outcome import Answers, Outcome, Timings
from pointsman.streams.store import AuditStore, OffsetConflict
from pointsman.streams.store.check import aggregates_check
from tests.integration.store.helpers import batch
from tests.support.outcomes import START, answer, outcome
from tests.support.postgres import fresh_database

AGENTS = numbers()
COMPARED = (
    "request_offset, partition, revision, created_at, status, source, arm, prediction, confidence, action, "
    "fallback_reason, total_ms, ml_prediction, decision_id"
)


@st.composite
def outcomes(draw: st.DrawFn, agent: str) -> Outcome:
    """An outcome of one of a few requests, so that many are decided more than once."""
    final = draw(st.booleans()) or draw(st.booleans())
    ml = draw(st.sampled_from([None, answer("ml@7", "update"), answer("ml@7", "none")]))
    return outcome(
        draw(st.integers(0, 12)),
        partition=draw(st.integers(0, 1)),
        agent=agent,
        status="final" if final else "pending_approval",
        revision=1 if final else 0,
        success=draw(st.booleans()),
        needs_review=draw(st.booleans()),
        source=draw(st.sampled_from(["ml", "deterministic"])),
        arm=draw(st.sampled_from(["candidate", "control"])),
        action=draw(st.sampled_from(["act", "validate", "escalate"])),
        fallback_reason=draw(st.sampled_from([None, "timeout", "error"])),
        confidence=draw(st.floats(0.5, 1)),
        answers=Answers(rules=answer(), ml=ml),
        decided_at=START
        + timedelta(seconds=draw(st.integers(0, 200)), microseconds=draw(st.integers(0, 999_999))),
        timings=Timings(total_ms=draw(st.floats(0, 5_000)), features_ms=0.1),
    )


@pytest.fixture(scope="module")
def shared(postgres: str, migrated_template: str) -> Iterator[str]:
    """One data base for all examples: each has an agent and a cluster of its own."""
    with fresh_database(postgres, template=migrated_template) as dsn:
        yield dsn


async def write_in_pieces(
    store: AuditStore, cluster: str, given_: list[Outcome], cuts: list[int]
) -> tuple[int, int]:
    """Writes in batches between the cuts, each once more afterwards, which must be refused. New and repeated ones."""
    new = repeated = 0
    edges = sorted({0, *cuts, len(given_)})
    for start, end in pairwise(edges):
        piece = batch(start, end, given_[start:end], cluster=cluster)
        result = await store.write(piece)
        new, repeated = new + result.outcomes, repeated + result.duplicates
        with pytest.raises(OffsetConflict):
            await store.write(piece)
    return new, repeated


def first_of_each(given_: list[Outcome]) -> list[Outcome]:
    kept = {}
    for one in given_:
        kept.setdefault((one.place.partition, one.place.offset, one.revision), one)
    return list(kept.values())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_cut_and_any_repeats_give_the_rows_and_aggregates_of_one_pass(
    shared: str, data: st.DataObject
) -> None:
    agent = f"agent-{next(AGENTS)}"
    sent = data.draw(st.lists(outcomes(agent), min_size=1, max_size=40))
    cuts = data.draw(st.lists(st.integers(0, len(sent)), max_size=6))
    kept = first_of_each(sent)

    async def write() -> None:
        async with AuditStore(shared) as store:
            assert await write_in_pieces(store, agent, sent, cuts) == (len(kept), len(sent) - len(kept))
            async with store.connection() as connection:
                assert await aggregates_check(connection) == []

    asyncio.run(write())
    with psycopg.connect(shared, options="-c timezone=UTC") as connection:
        query = f"SELECT {COMPARED} FROM ml_learning.agent_decisions WHERE agent_name = %s"
        rows = connection.execute(query.encode(), (agent,)).fetchall()
        sums = connection.execute(
            "SELECT sum(decisions), sum(pending), sum(fallbacks), sum(agreements), sum(confidence_sum)"
            " FROM ml_learning.decision_minutes WHERE agent_name = %s",
            (agent,),
        ).fetchone()
        histogram = connection.execute(
            "SELECT bucket, sum(decisions)::integer FROM ml_learning.decision_latency_buckets"
            " WHERE agent_name = %s GROUP BY bucket",
            (agent,),
        ).fetchall()
    assert Counter(rows) == Counter(as_row(one) for one in kept)
    final = [one for one in kept if one.status == "final"]
    agreements = sum(o.answers.ml is not None and o.answers.ml.prediction == "update" for o in final)
    fallbacks = sum(o.fallback_reason is not None for o in final)
    assert sums is not None
    assert sums[:4] == (len(final), len(kept) - len(final), fallbacks, agreements)
    assert float(sums[4]) == pytest.approx(sum(o.confidence for o in final), abs=1e-5)
    assert dict(histogram) == Counter(bucket(o.timings.total_ms) for o in final)


def as_row(o: Outcome) -> tuple[object, ...]:
    ml = o.answers.ml
    return (
        o.place.offset, o.place.partition, o.revision, o.decided_at, o.status, o.source, o.arm, o.prediction,
        o.confidence, o.action, o.fallback_reason, o.timings.total_ms, ml and ml.prediction, o.decision_id,
    )  # fmt: skip


def test_the_check_finds_a_count_that_is_wrong(migrated: str, people: psycopg.Connection) -> None:
    async def differences() -> list[str]:
        async with AuditStore(migrated) as store, store.connection() as connection:
            return [difference.what for difference in await aggregates_check(connection)]

    async def fill() -> None:
        async with AuditStore(migrated) as store:
            await store.write(batch(0, 2, [outcome(0), outcome(1, fallback_reason="timeout")]))

    asyncio.run(fill())
    assert asyncio.run(differences()) == []
    for table in ("minute", "fallback", "latency"):
        people.execute(f"UPDATE ml_learning.decision_{table}_shards SET decisions = decisions + 1".encode())
    assert asyncio.run(differences()) == ["minutes", "fallbacks", "latency"]


async def test_views_add_the_shards_up(store: AuditStore, people: psycopg.Connection) -> None:
    await store.write(batch(0, 4, [outcome(0, partition=p, decided_at=START) for p in range(4)]))
    assert people.execute("SELECT count(*) FROM ml_learning.decision_minute_shards").fetchone() == (4,)
    assert people.execute("SELECT decisions FROM ml_learning.decision_minutes").fetchall() == [(4,)]
    assert people.execute("SELECT decisions FROM ml_learning.decision_latency_minutes").fetchall() == [(4,)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    histogram=st.dictionaries(st.integers(0, 900), st.integers(1, 1_000), max_size=30),
    q=st.floats(0, 1),
)
def test_quantiles_in_sql_are_those_of_the_schema(shared: str, histogram: dict[int, int], q: float) -> None:
    shuffled = list(histogram)
    random.Random(0).shuffle(shuffled)
    # Each bucket twice: histograms of many minutes come as they are.
    buckets, counts = shuffled * 2, [histogram[b] for b in shuffled] * 2
    doubled = {b: 2 * n for b, n in histogram.items()}
    query = "SELECT ml_learning.latency_quantile_ms(%s::integer[], %s::bigint[], %s)"
    expected = quantile_ms(doubled, q)
    found = _value(shared, query, (buckets, counts, q))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(milliseconds=st.floats(0, 1e7))
def test_buckets_in_sql_are_those_of_the_schema(shared: str, milliseconds: float) -> None:
    index = bucket(milliseconds)
    query = "SELECT ml_learning.latency_bucket(%s::double precision)"
    assert _value(shared, query, (milliseconds,)) == index
    assert _value(shared, "SELECT ml_learning.latency_ms(%s)", (index,)) == pytest.approx(
        middle_ms(index), rel=1e-12
    )


_CONNECTIONS: dict[str, psycopg.Connection] = {}


@pytest.fixture(scope="module", autouse=True)
def one_connection() -> Iterator[None]:
    """Closes what `_value` opened."""
    yield
    while _CONNECTIONS:
        _CONNECTIONS.popitem()[1].close()


def _value(dsn: str, query: str, values: tuple[object, ...]) -> object:
    connection = _CONNECTIONS.get(dsn)
    if connection is None:
        connection = _CONNECTIONS[dsn] = psycopg.connect(dsn, autocommit=True)
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]
