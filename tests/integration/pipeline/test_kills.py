"""Kills under load: afterwards exactly one committed outcome and one audit row a request, and equal counts."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from pathlib import Path

from tests.support.kafka import Kafka, KafkaServer, free_ports
from tests.support.pipeline import Pipeline, account, async_wait_for, request
from tests.support.postgres import PostgresServer

FLAG = "ml-agent-rollout"
COUNT = 4_000
ROWS = "SELECT count(*) FROM ml_learning.agent_decisions"


class Load:
    """A producer that goes on while things are killed."""

    def __init__(self, pipeline: Pipeline, count: int, chunk: int = 50) -> None:
        self.ids = [f"r-{number}" for number in range(count)]
        self._pipeline, self._count, self._chunk = pipeline, count, chunk
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


async def test_killed_workers_and_model_processes_lose_and_double_nothing(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=50)
    chance = random.Random(20261121)
    decisions, sink = pipeline.worker().wait_ready(), pipeline.worker("sink").wait_ready()
    load = Load(pipeline, COUNT)

    def killed() -> None:
        nonlocal decisions, sink
        for _ in range(3):
            load.more(0.15)
            reached = chance.randrange(100, 400)
            pipeline.read(pipeline.names.outcomes, lambda found, least=reached: len(found) >= least)
            os.kill(decisions.model_pid(), signal.SIGKILL)
            load.more(0.05)
            decisions.kill()
            sink.kill()
            decisions, sink = pipeline.worker(), pipeline.worker("sink")
            decisions.wait_ready()
            sink.wait_ready()
        load.finish()

    await asyncio.to_thread(killed)
    await asyncio.to_thread(check, pipeline, load.ids)


async def test_a_paused_and_resumed_owner_is_fenced(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=50)
    paused = pipeline.worker().wait_ready()
    pipeline.worker("sink").wait_ready()
    load = Load(pipeline, 1_000)

    def scene() -> None:
        load.more(0.3)
        pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 50)
        paused.signal(signal.SIGSTOP)
        load.more(0.3)
        pipeline.worker().wait_ready()
        pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 600)
        paused.signal(signal.SIGCONT)
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
    own_kafka: KafkaServer, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    pipeline = Pipeline(own_kafka.bootstrap, database, topic_prefix, tmp_path)
    try:
        await pipeline.prepare(flag=FLAG, percentage=50)
        pipeline.worker().wait_ready()
        pipeline.worker("sink").wait_ready()
        pipeline.send(request(number) for number in range(300))
        await asyncio.to_thread(pipeline.read, pipeline.names.outcomes, lambda found: len(found) >= 20)
        own_kafka.kill()
        own_kafka.start()
        await asyncio.to_thread(pipeline.send, (request(number) for number in range(300, 600)))
        await asyncio.to_thread(check, pipeline, [f"r-{number}" for number in range(600)])
    finally:
        pipeline.close()
