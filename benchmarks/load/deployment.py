"""What is measured, as processes: a broker, topics of their own for each, `pointsman worker` or the bare loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.load.bare import Bare
from benchmarks.load.generator import ROOT
from benchmarks.load.observer import Observer
from pointsman.streams import topics
from pointsman.streams.flags import FlagWriter
from pointsman.streams.settings import Settings, load
from pointsman.streams.topics import Names
from tests.support.kafka import KafkaServer
from tests.support.pipeline import WorkerProcess

FLAG = "ml-agent-rollout"
PERCENT = 50.0
"""Share of the model arm: both ways are taken, and the model is asked in every batch."""
RECORDS = re.compile(rb'^pointsman_records_total\{lane="decisions"\} (\S+)', re.MULTILINE)
CANDIDATES = re.compile(rb'^pointsman_decisions_total\{.*arm="candidate".*\} (\S+)', re.MULTILINE)
FALLBACKS = re.compile(rb"^pointsman_fallbacks_total\{.*\} (\S+)", re.MULTILINE)


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """Bootstrap servers: POINTSMAN_TEST_KAFKA, or a broker of our own."""
    # A topic that was just made has no leader for a moment: the clients try again, and say so once a try.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    given = os.environ.get("POINTSMAN_TEST_KAFKA")
    if given:
        yield given
        return
    with KafkaServer() as own:
        yield own.bootstrap


@dataclass(frozen=True)
class Deployment:
    """Topics under one prefix."""

    servers: str
    partitions: int
    prefix: str
    folder: Path

    @property
    def names(self) -> Names:
        """Of the topics."""
        return Names(self.prefix)

    @property
    def settings(self) -> Settings:
        """As the worker has them."""
        options = {"kafka": self.servers, "topic_prefix": self.prefix, "partitions": self.partitions}
        return load(options | {"group": f"{self.prefix}g"}, {}).settings

    @property
    def interval_s(self) -> float:
        """Between two commits of a partition when one process has them all: as `Lane.interval_s` says."""
        settings = self.settings
        return max(settings.commit_interval_ms / 1000, self.partitions / settings.commits_per_s_max)

    @contextlib.contextmanager
    def worker(
        self, lanes: str = "decisions", *, ready: bool = True, **options: str
    ) -> Iterator[WorkerProcess]:
        """`pointsman worker`, ready or just started; stopped at the end."""
        settings = {
            "kafka": self.servers,
            "topic_prefix": self.prefix,
            "group": f"{self.prefix}g",
            "lanes": lanes,
            "metrics_port": "0",
            "data_dir": str(self.folder / "data"),
            "log_level": "info",
        }
        worker = WorkerProcess(settings | options, self.folder / f"worker-{secrets.token_hex(4)}.log")
        try:
            yield worker.wait_ready() if ready else worker
        finally:
            worker.stop()

    def observer(self) -> Observer:
        """Of its outcomes, from now on."""
        return Observer(self.servers, self.names.outcomes)

    @contextlib.contextmanager
    def bare(self) -> Iterator[None]:
        """The bare loop with the same interval, ready; stopped at the end."""
        settings = self.settings
        task = Bare(
            servers=self.servers,
            source=self.names.requests,
            target=self.names.outcomes,
            group=settings.group,
            interval_s=self.interval_s,
            fetch_wait_ms=settings.fetch_wait_ms,
        )
        command = [sys.executable, "-m", "benchmarks.load.bare", json.dumps(asdict(task))]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                if not process.stdout.readline():
                    msg = "the bare loop did not start"
                    raise RuntimeError(msg)
                yield
            finally:
                process.terminate()
                process.wait()  # before its input is closed, which would say that we are gone


@contextlib.contextmanager
def deployed(servers: str, partitions: int) -> Iterator[Deployment]:
    """Fresh topics with the flag set, and a folder for what processes write."""
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        deployment = Deployment(servers, partitions, f"bench-{secrets.token_hex(4)}-", Path(folder))
        asyncio.run(_prepare(deployment))
        yield deployment


async def _prepare(deployment: Deployment) -> None:
    admin = await topics.connect(deployment.servers)
    try:
        await topics.create(admin, deployment.settings)
        await topics.appear(admin, deployment.settings)
    finally:
        await admin.close()
    writer = FlagWriter(deployment.servers, deployment.names.flags, group=deployment.settings.group)
    await writer.set(FLAG, PERCENT, by="bench")


def decided(ops: str) -> int:
    """Requests that a worker has read and committed, from its operations port."""
    return int(_sum(RECORDS, ops, "pointsman_records_total"))


def by_model_percent(worker: WorkerProcess) -> float:
    """Share of the candidate's decisions that the model answered.

    Where the model was too late, the rules did its work, and what was measured is something else.
    """
    ops = worker.ops()
    assert ops is not None, "the worker is ready"
    candidates = _sum(CANDIDATES, ops)
    return 100 * (1 - _sum(FALLBACKS, ops) / candidates) if candidates else 0.0


def _sum(metric: re.Pattern[bytes], ops: str, only: str = "") -> float:
    """``only``: ask for no other metric; of many agents all of them cost the worker 20 ms."""
    query = f"?name[]={only}" if only else ""
    with urllib.request.urlopen(f"{ops}/metrics{query}", timeout=10) as answer:
        return sum(float(value) for value in metric.findall(answer.read()))


def family(worker: WorkerProcess) -> dict[str, psutil.Process]:
    """The worker's processes: the lane's and the model's. Raises RuntimeError where one is not there."""
    try:
        return {"lane": psutil.Process(worker.pid), "model": psutil.Process(worker.model_pid())}
    except (psutil.Error, AssertionError) as error:
        msg = f"a process of the worker is gone: {error!r}; {worker.tail()}"
        raise RuntimeError(msg) from error


def others_percent() -> float:
    """Share of the machine that other programs take, while ours are at rest: figures taken beside them say little."""
    return float(psutil.cpu_percent(interval=1.0))
