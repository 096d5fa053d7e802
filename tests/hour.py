"""`python -m tests.hour`: an hour of replay in real time; then each figure of the dashboards beside pandas over the raw topics.

Commits (of `--commits`, else of the history here) are asked about at `--rate` a second while the flag goes up, the model
stops answering now and then, people say what they think minutes later, and the sink merges minutes that are over.
`tests/integration/pipeline/test_dashboards.py` is the same within seconds, with times spread over an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from confluent_kafka import Consumer, Producer

from benchmarks import data
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.signature import HEADER, sign
from pointsman.streams.dashboards import ask, panels
from pointsman.streams.dashboards.ask import Window
from pointsman.streams.store.check import aggregates_check
from tests.support.compared import AGENT, SQL, differing, told
from tests.support.kafka import KafkaServer
from tests.support.pipeline import Pipeline, consumer, good, to_end
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.recomputed import Recomputed

FLAG: Final = "ml-agent-rollout"
STAGES: Final = (0, 5, 20, 50)
"""Percentages, each for a quarter of the time."""
SILENCES, SILENT_S = 5, 10.0
"""How often and for how long the model process stands still."""
LATE_S: Final = 900.0
"""Within this time people say what they think of a decision."""
KEY: Final = "a key of the deployment"
_decode = msgspec.json.decode


def main() -> int:
    """0 if all figures are equal, 1 if not."""
    options = argparse.ArgumentParser(prog="python -m tests.hour", description=__doc__)
    options.add_argument("--minutes", type=int, default=60)
    options.add_argument("--rate", type=float, default=10.0)
    options.add_argument("--commits", type=Path)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with (
        KafkaServer() as kafka,
        PostgresServer() as server,
        fresh_database(server.dsn) as dsn,
        tempfile.TemporaryDirectory() as folder,
    ):
        pipeline = Pipeline(kafka.bootstrap, dsn, "hour-", Path(folder))
        try:
            found = asyncio.run(_Hour(pipeline, given).go())
        finally:
            pipeline.close()
    for name, differences in found.items():
        print(f"{name}: {'equal' if not differences else differences[:3]}", flush=True)
    return int(any(found.values()))


class _Hour:
    """The replay, and what was sent in it."""

    def __init__(self, pipeline: Pipeline, given: argparse.Namespace) -> None:
        self._pipeline = pipeline
        self._given = given
        self._chance = random.Random(given.seed)
        self._producer = Producer({"bootstrap.servers": pipeline.bootstrap, "linger.ms": 5})
        self._due: list[tuple[float, int, Feedback, bool, int]] = []
        """What will be said: when, a number, what, whether signed, in which partition."""
        self._said: list[tuple[Feedback, bool]] = []
        self._numbers = count()
        self._outcomes: list[Outcome] = []

    async def go(self) -> dict[str, list[str]]:
        """Differences by query; none is empty lists."""
        await self._pipeline.prepare(flag=FLAG, percentage=STAGES[0])
        config = self._pipeline.folder / "pointsman.toml"
        config.write_text(f'[feedback_keys]\nmonitor = "{KEY}"\n')
        worker = self._pipeline.worker("decisions").wait_ready()
        self._pipeline.worker("sink", config=str(config)).wait_ready()
        start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        await asyncio.sleep((start - datetime.now(UTC)).total_seconds())
        end = start + timedelta(minutes=self._given.minutes)
        print(f"from {start:%H:%M} to {end:%H:%M} UTC, {self._given.rate:g} requests a second", flush=True)
        with consumer(self._pipeline.bootstrap, self._pipeline.names.outcomes) as reader:
            await self._replay(worker, reader, end)
            read = {each.partition: max(0, each.offset) for each in reader.position(reader.assignment())}
        self._take(to_end(self._pipeline.bootstrap, self._pipeline.names.outcomes, read))
        for *_, event, signed, partition in sorted(self._due):
            self._say(event, signed, partition)
        assert self._producer.flush(30) == 0
        return await self._compared(Window(AGENT, start, end))

    async def _replay(self, worker: Any, reader: Consumer, end: datetime) -> None:
        begun, seconds = time.monotonic(), self._given.minutes * 60
        requests = data.requests(10**7, self._given.commits)
        sent, stage = 0, 0
        silences = [each * seconds / (SILENCES + 1) for each in range(1, SILENCES + 1)]
        stopped, silent_until = 0, None
        while datetime.now(UTC) < end:
            passed = time.monotonic() - begun
            if stage < len(STAGES) - 1 and passed > (stage + 1) * seconds / len(STAGES):
                stage += 1
                await self._pipeline.flag(FLAG, STAGES[stage])
            if silences and passed > silences[0]:
                stopped = worker.model_pid()
                os.kill(stopped, signal.SIGSTOP)
                silent_until = silences.pop(0) + SILENT_S
            if silent_until is not None and passed > silent_until:
                silent_until = None
                with contextlib.suppress(
                    ProcessLookupError
                ):  # the worker may have ended it, and begun another
                    os.kill(stopped, signal.SIGCONT)
            sent += self._ask(requests, int(passed * self._given.rate) - sent)
            self._take(good(reader.consume(1000, 0.02)))
            while self._due and self._due[0][0] < time.monotonic():
                _, _, event, signed, partition = heapq.heappop(self._due)
                self._say(event, signed, partition)
            self._producer.poll(0)
            await asyncio.sleep(0.05)
        assert self._producer.flush(30) == 0
        print(f"{sent} requests sent", flush=True)
        self._pipeline.read(self._pipeline.names.outcomes, lambda found: len(found) >= sent)

    def _ask(self, requests: Iterator[tuple[bytes, bytes]], wanted: int) -> int:
        for _ in range(wanted):
            key, value = next(requests)
            self._producer.produce(self._pipeline.names.requests, value, key)
        return max(0, wanted)

    def _take(self, messages: list[Any]) -> None:
        """Outcomes, and when what will be said of them."""
        for message in messages:
            outcome = _decode(message.value(), type=Outcome)
            self._outcomes.append(outcome)
            at = time.monotonic()
            for event, signed in told(outcome, self._chance, datetime.now(UTC)):
                at += self._chance.uniform(0, LATE_S / 8)
                heapq.heappush(self._due, (at, next(self._numbers), event, signed, message.partition()))

    def _say(self, event: Feedback, signed: bool, partition: int) -> None:
        value = msgspec.json.encode(event)
        headers: list[Any] = [(HEADER, sign(KEY, value))] if signed else []
        key = (event.unit or event.decision_id).encode()
        self._producer.produce(
            self._pipeline.names.feedback, value, key, partition=partition, headers=headers
        )
        self._said.append((event, signed))

    async def _compared(self, window: Window) -> dict[str, list[str]]:
        pipeline = self._pipeline
        shadows = [
            _decode(each.value(), type=ShadowAnswer)
            for each in pipeline.read(pipeline.names.shadows, lambda _: True)
        ]
        pipeline.wait_rows("SELECT count(*) FROM ml_learning.agent_decisions", len(self._outcomes))
        pipeline.wait_rows("SELECT count(*) FROM ml_learning.feedback_events", len(self._said))
        pipeline.wait_rows("SELECT count(*) FROM ml_learning.decision_shadows", len(shadows))
        pipeline.wait_rows("SELECT count(*) FROM ml_learning.decision_truths WHERE minute IS NULL", 0)
        inside = [each for each in self._outcomes if window.start <= each.decided_at < window.end]
        expected = Recomputed(inside, shadows, self._said)
        merged = pipeline.rows("SELECT count(*) FROM ml_learning.decision_latency_shards WHERE shard < 0")
        print(
            f"{len(inside)} decisions in the window, {len(shadows)} shadow answers, {len(self._said)} events, "
            f"{merged[0][0]} merged rows of latency",
            flush=True,
        )
        found: dict[str, list[str]] = {}
        async with await psycopg.AsyncConnection.connect(
            pipeline.dsn, options="-c timezone=UTC"
        ) as connection:
            for name in SQL:
                shown = await ask.of_database(connection, panels.sql(name), window)
                within = 0.011 if name == "latency" else 1e-6
                found[name] = (
                    differing(shown, expected.series(name), within=within) if shown else ["nothing is shown"]
                )
            found["aggregates beside the audit"] = [str(each) for each in await aggregates_check(connection)]
        return found


if __name__ == "__main__":
    sys.exit(main())
