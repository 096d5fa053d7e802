"""Requests that fail for a while: they wait in the delay topics, and end in one outcome or one dead letter."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pointsman.schemas.codec import Decoder
from pointsman.schemas.outcome import Outcome
from pointsman.schemas.retry import HEADER_KEPT, Kept
from tests.support.flaky import Flaky
from tests.support.pipeline import Pipeline, account, async_wait_for, request

DELAYS = "100,200,300"
LEDGER = "SELECT sum(requests - outcomes - pending - dead_letters - duplicates - retrying) FROM ml_learning.lane_ledger"


@pytest.fixture
def flaky(tmp_path: Path, pipeline: Pipeline) -> Flaky:
    """The agent, closed; workers of this pipeline have it, and delays of milliseconds."""
    made = Flaky(tmp_path)
    pipeline.options = {"agents": str(made.folder), "retry_delays_ms": DELAYS}
    return made


def ask(number: int, how: str = "later", **changes: Any) -> tuple[bytes | None, bytes | None]:
    return request(number, agent="flaky", input={"how": how}, **changes)


def outcomes(pipeline: Pipeline, count: int) -> list[Outcome]:
    found = pipeline.read(pipeline.names.outcomes, lambda read: len(read) >= count)
    return [Decoder(Outcome).decode(each.value()) for each in found]


async def test_what_waits_is_answered_once_the_agent_can(pipeline: Pipeline, flaky: Flaky) -> None:
    delays_ms = [100, 3000, 5000, 5000, 5000, 5000, 5000, 5000]
    pipeline.options["retry_delays_ms"] = ",".join(map(str, delays_ms))
    await pipeline.prepare()
    worker = pipeline.worker().wait_ready()
    pipeline.worker("sink").wait_ready()
    pipeline.send(ask(number, "later" if number % 2 else "raise") for number in range(40))
    pipeline.send(request(number) for number in range(100, 120))
    await asyncio.to_thread(pipeline.read, pipeline.names.retries[0], lambda found: len(found) >= 40)
    assert len(outcomes(pipeline, 20)) == 20, "the others are not held up"
    flaky.open()
    found = await asyncio.to_thread(outcomes, pipeline, 60)
    waited = {each.decision_id: each for each in found if each.history}
    assert account([f"r-{n}" for n in (*range(40), *range(100, 120))], [o.decision_id for o in found]).clean
    assert set(waited) == {f"r-{n}" for n in range(40)}
    for each in waited.values():
        assert each.history
        assert each.history.attempts > 1
        assert each.history.first_error is not None
        assert each.history.first_error.reason in ("try_later", "feature_error")
        assert each.place.topic == pipeline.names.requests
        # A few milliseconds for times that are cut to whole ones, at each topic.
        assert each.timings.total_ms >= sum(delays_ms[: each.history.attempts - 1]) - 10
    assert worker.report("health")["healthy"]
    await asyncio.to_thread(
        pipeline.wait_rows, "SELECT coalesce(sum(outcomes), 0) FROM ml_learning.lane_ledger", 60
    )
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.agent_decisions", 60)
    assert pipeline.rows(LEDGER) == [(0,)]
    assert pipeline.rows("SELECT count(*) FROM ml_learning.decisions WHERE attempts > 1") == [(40,)]
    assert await pipeline.ledger_differences() == []


async def test_what_never_succeeds_is_a_dead_letter_after_all_attempts(
    pipeline: Pipeline, flaky: Flaky
) -> None:
    await pipeline.prepare()
    worker = pipeline.worker().wait_ready()
    pipeline.worker("sink").wait_ready()
    pipeline.send([ask(1, "never"), request(2, agent="nobody"), request(3)])
    letters = await asyncio.to_thread(
        pipeline.read, pipeline.names.dead_letters, lambda found: len(found) >= 2
    )
    by_reason = {dict(each.headers())["reason"]: each for each in letters}
    assert set(by_reason) == {b"feature_error", b"unknown_agent"}
    for each in letters:
        headers = dict(each.headers())
        assert headers["attempt"] == b"4"
        assert headers["topic"].decode() == pipeline.names.requests
        kept = Decoder(Kept).decode(headers[HEADER_KEPT])
        assert kept.attempt == 4
        assert kept.taken_from is not None
        assert kept.taken_from.topic == pipeline.names.retries[2]
    assert json.loads(by_reason[b"unknown_agent"].value())["id"] == "r-2"
    for topic in pipeline.names.retries:
        assert len(await asyncio.to_thread(pipeline.read, topic, lambda found: len(found) >= 2)) == 2
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.dead_letters", 2)
    await asyncio.to_thread(
        pipeline.wait_rows, "SELECT coalesce(sum(dead_letters), 0) FROM ml_learning.lane_ledger", 2
    )
    assert await pipeline.ledger_differences() == []
    await async_wait_for(
        lambda: worker.report("health")["lanes"]["decisions"]["waiting_records"] == 0, "none"
    )


@pytest.mark.timeout(300)  # three workers start, and two of them are only missed after their session
async def test_killed_workers_leave_what_waits_to_the_others(pipeline: Pipeline, flaky: Flaky) -> None:
    # Some are at each attempt when a worker is killed; the last wait is long enough for a slow machine to get there.
    pipeline.options["retry_delays_ms"] = "500,1000,15000"
    await pipeline.prepare()
    pipeline.worker("sink").wait_ready()
    ids = [f"r-{number}" for number in range(300)]
    pipeline.send(ask(number) for number in range(300))
    workers = [pipeline.worker() for _ in range(3)]
    for topic in pipeline.names.retries[:2]:
        await asyncio.to_thread(pipeline.read, topic, lambda found: len(found) >= 20)
        workers.pop(0).kill()
    await asyncio.to_thread(pipeline.read, pipeline.names.retries[2], lambda found: len(found) >= 20)
    flaky.open()
    workers[0].wait_ready()
    found = await asyncio.to_thread(outcomes, pipeline, 300)
    assert account(ids, [each.decision_id for each in found]).clean
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.agent_decisions", 300)
    await asyncio.to_thread(
        pipeline.wait_rows, "SELECT coalesce(sum(outcomes), 0) FROM ml_learning.lane_ledger", 300
    )
    assert pipeline.rows(LEDGER) == [(0,)]
    assert await pipeline.ledger_differences() == []
