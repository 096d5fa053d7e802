"""Kills under load: afterwards exactly one committed outcome and one audit row a request, and equal counts."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import evidence
from tests.support import held
from tests.support.held import Held
from tests.support.kafka import Kafka, KafkaServer, free_ports
from tests.support.pipeline import (
    EXAMPLES,
    Pipeline,
    WorkerProcess,
    account,
    async_wait_for,
    request,
    wait_for,
)
from tests.support.postgres import PostgresServer

FLAG = "ml-agent-rollout"
COUNT = 4_000
ROWS = "SELECT count(*) FROM ml_learning.agent_decisions"


@pytest.fixture
def gate(tmp_path: Path) -> Held:
    """Workers that have it can be held in the middle of a batch; `agents` says where they find it."""
    return Held(tmp_path)


def agents(gate: Held) -> dict[str, str]:
    return {"agents": f"{EXAMPLES}:{gate.folder}"}


class Load:
    """A producer that goes on while things are killed."""

    def __init__(self, pipeline: Pipeline, count: int, chunk: int = 50) -> None:
        self.ids = [f"r-{number}" for number in range(count)]
        self._pipeline, self._count, self._chunk = pipeline, count, chunk
        self.sent = 0
        """Requests that the broker has."""
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def more(self, share: float) -> None:
        """Send this share of all requests now."""
        for _ in range(int(self._count * share / self._chunk)):
            self._go.release()

    def finish(self) -> None:
        """Send all that is left and wait for the broker to have it."""
        for _ in range(self._count // self._chunk):
            self._go.release()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        for start in range(0, self._count, self._chunk):
            self._go.acquire()
            self._pipeline.send(request(number) for number in range(start, start + self._chunk))
            self.sent += self._chunk

    def hold(self, gate: Held, worker: WorkerProcess) -> None:
        """Return once the worker stands still in the middle of a batch, with requests that nobody has decided."""
        gate.shut()
        name = f"held-{len(self.ids)}"
        self._pipeline.send([held.ask(name)])
        self.ids.append(f"r-{name}")
        gate.wait(worker)
        assert self.undone() > 0

    def undone(self) -> int:
        """Requests that the broker has and that have no committed outcome."""
        extra = len(self.ids) - self._count
        return self.sent + extra - len({each.key() for each in decided(self._pipeline)})


def decided(pipeline: Pipeline, least: int = 0) -> list[Any]:
    """All committed outcomes, once there are so many."""
    found: list[Any] = []

    def enough() -> bool:
        found[:] = evidence.read(pipeline.bootstrap, pipeline.names.outcomes)
        return len(found) >= least

    wait_for(enough, f"{least} outcomes", detail=lambda: f"{len(found)} are there")
    return found


def check(pipeline: Pipeline, ids: list[str]) -> None:
    """Every count agrees: topics, rows, minutes, ledger."""
    outcomes = pipeline.read(
        pipeline.names.outcomes, lambda found: len({each.key() for each in found}) >= len(ids)
    )
    result = account(ids, [each.key().decode() for each in outcomes])
    assert result.clean, result
    pipeline.wait_rows("SELECT coalesce(sum(outcomes), 0) FROM ml_learning.lane_ledger", len(ids))
    pipeline.wait_rows(ROWS, len(ids))
    assert pipeline.rows("SELECT count(DISTINCT decision_id) FROM ml_learning.agent_decisions") == [
        (len(ids),)
    ]
    assert pipeline.rows("SELECT sum(decisions) FROM ml_learning.decision_minutes") == [(len(ids),)]
    assert pipeline.rows("SELECT sum(decisions) FROM ml_learning.decision_latency_minutes") == [(len(ids),)]
    assert pipeline.rows(
        "SELECT sum(requests - outcomes - pending - dead_letters - duplicates - retrying) FROM ml_learning.lane_ledger"
    ) == [(0,)]


async def test_killed_workers_and_model_processes_lose_and_double_nothing(
    pipeline: Pipeline, gate: Held
) -> None:
    pipeline.options |= agents(gate)
    await pipeline.prepare(flag=FLAG, percentage=50)
    chance = random.Random(20261121)
    decisions, sink = pipeline.worker().wait_ready(), pipeline.worker("sink").wait_ready()
    load = Load(pipeline, COUNT)

    def killed() -> None:
        nonlocal decisions, sink
        for _ in range(3):
            done = len(decided(pipeline))
            load.more(0.15)
            done = len(decided(pipeline, done + chance.randrange(100, 400)))
            os.kill(decisions.model_pid(), signal.SIGKILL)
            sink.signal(signal.SIGSTOP)
            load.more(0.05)
            # The model's next process takes its time, and of these the sink has written nothing.
            decided(pipeline, done + 20)
            load.hold(gate, decisions)
            load.more(0.05)
            decisions.kill()
            assert pipeline.rows(ROWS) < [(len(decided(pipeline)),)], "the sink had more to write"
            sink.kill()
            assert load.undone() > 0, "what was under way is undone"
            gate.open()
            decisions, sink = pipeline.worker(), pipeline.worker("sink")
            decisions.wait_ready()
            sink.wait_ready()
        load.finish()

    await asyncio.to_thread(killed)
    await asyncio.to_thread(check, pipeline, load.ids)
    fallbacks = "SELECT count(*) FROM ml_learning.agent_decisions WHERE fallback_reason IS NOT NULL"
    assert pipeline.rows(fallbacks) > [(0,)], "the model was missed"


async def test_a_paused_and_resumed_owner_is_fenced(pipeline: Pipeline, gate: Held) -> None:
    pipeline.options |= agents(gate)
    await pipeline.prepare(flag=FLAG, percentage=50)
    paused = pipeline.worker().wait_ready()
    pipeline.worker("sink").wait_ready()
    load = Load(pipeline, 1_000)

    def assignments() -> int:
        return sum(
            line["event"] == "partitions assigned" and line["lane"] == "decisions" for line in paused.lines()
        )

    def scene() -> None:
        load.more(0.3)
        decided(pipeline, 50)
        load.hold(gate, paused)
        paused.signal(signal.SIGSTOP)
        gate.open()
        load.more(0.3)
        pipeline.worker().wait_ready()
        decided(pipeline, 601)
        assert load.undone() == 0, "the batch that the paused worker holds was done by its successor"
        paused.signal(signal.SIGCONT)
        # It is given partitions anew only when it is done with those that it had, and with the batch in its hands.
        wait_for(lambda: assignments() >= 2, "the paused worker to lose its partitions", detail=paused.tail)
        load.finish()

    await asyncio.to_thread(scene)
    await asyncio.to_thread(check, pipeline, load.ids)


async def test_partitions_move_between_workers_under_load(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=50)
    first = pipeline.worker().wait_ready()
    pipeline.worker("sink").wait_ready()
    load = Load(pipeline, 2_000)

    def scene() -> None:
        load.more(0.4)
        second = pipeline.worker().wait_ready()
        load.more(0.3)
        assert first.stop() == 0
        load.finish()
        assert second.report("health")["healthy"]

    await asyncio.to_thread(scene)
    await asyncio.to_thread(check, pipeline, load.ids)


async def test_a_hanging_model_leaves_the_rules_at_work(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=100)
    worker = pipeline.worker(model_breaker_open_s="3600").wait_ready()
    pipeline.worker("sink").wait_ready()
    await async_wait_for(
        lambda: worker.report("health")["models"]["documentation-keeper"]["version"] is not None, "the model"
    )
    os.kill(worker.model_pid(), signal.SIGSTOP)
    load = Load(pipeline, 500)
    await asyncio.to_thread(load.finish)
    await asyncio.to_thread(check, pipeline, load.ids)

    reasons = dict(
        pipeline.rows("SELECT fallback_reason, count(*) FROM ml_learning.agent_decisions GROUP BY 1")
    )
    assert set(reasons) <= {"model_timeout", "breaker_open", "model_unavailable"}
    assert sum(reasons.values()) == 500
    assert pipeline.rows("SELECT DISTINCT source, success FROM ml_learning.agent_decisions") == [
        ("deterministic", True)
    ]


async def test_a_database_that_is_down_delays_rows_and_nothing_else(
    kafka: Kafka, topic_prefix: str, tmp_path: Path, open_folder: Path
) -> None:
    (port,) = free_ports(1)
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    server = PostgresServer(open_folder / "database", settings=settings).start()
    # By address: a server that comes back has another folder for its socket.
    dsn = f"host=127.0.0.1 port={port} user=pointsman dbname=pointsman"
    pipeline = Pipeline(kafka.bootstrap, dsn, topic_prefix, tmp_path)
    try:
        await pipeline.prepare(flag=FLAG, percentage=50)
        pipeline.worker().wait_ready()
        pipeline.worker("sink").wait_ready()
        pipeline.send(request(number) for number in range(100))
        await asyncio.to_thread(pipeline.wait_rows, ROWS, 100)
        server.kill()
        pipeline.send(request(number) for number in range(100, 300))
        await asyncio.to_thread(pipeline.read, pipeline.names.outcomes, lambda found: len(found) >= 300)
        server.start()
        await asyncio.to_thread(check, pipeline, [f"r-{number}" for number in range(300)])
    finally:
        pipeline.close()
        server.stop()


async def test_a_broker_that_is_killed_and_comes_back(
    own_kafka: KafkaServer, database: str, topic_prefix: str, tmp_path: Path, gate: Held
) -> None:
    pipeline = Pipeline(own_kafka.bootstrap, database, topic_prefix, tmp_path, agents(gate))
    try:
        await pipeline.prepare(flag=FLAG, percentage=50)
        worker = pipeline.worker().wait_ready()
        pipeline.worker("sink").wait_ready()
        load = Load(pipeline, 600)

        def scene() -> None:
            load.more(0.5)
            decided(pipeline, 20)
            load.hold(gate, worker)
            own_kafka.kill()
            gate.open()
            own_kafka.start()
            load.finish()

        await asyncio.to_thread(scene)
        await asyncio.to_thread(check, pipeline, load.ids)
    finally:
        pipeline.close()
