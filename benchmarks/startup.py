"""Start-up: from the start of the process `pointsman worker` to its first committed outcome, as a consumer sees it.

    python -m benchmarks.startup [--quick] [--runs 5]

All lanes, the model process, real Kafka and PostgreSQL; a request waits already. The later starts find what the
earlier ones committed, as a restart does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from confluent_kafka import Producer

from benchmarks.load.deployment import Deployment, broker, deployed, family
from benchmarks.load.messages import maker
from benchmarks.load.observer import Observer
from benchmarks.load.options import finish, parser
from benchmarks.load.phase import PATIENCE_S, Load
from benchmarks.load.schedule import all_answered
from benchmarks.result import Row
from pointsman.streams.store.migrate import migrate
from tests.support.postgres import PostgresServer

LANES = "decisions,sink,live"


def main() -> None:
    """Measure, print, write."""
    options = _options()
    load = Load(options.commits)
    taken: list[dict[str, Any]] = []
    with broker() as servers, PostgresServer() as postgres, deployed(servers, 4) as deployment:
        asyncio.run(migrate(postgres.dsn))
        with deployment.observer() as observer:
            for number in range(options.runs):
                taken.append(_start(deployment, observer, load, number, postgres.dsn))
                print(f"start {number + 1}: {taken[-1]['outcome_s']:.2f} s", flush=True)
    rows = [
        Row.of("start of the process to the first committed outcome", "s", [each["outcome_s"] for each in taken], better="lower"),
        Row.of("CPU of that, both processes", "s", [each["cpu_s"] for each in taken], better="lower"),
    ]  # fmt: skip
    finish("startup", rows, {"starts": taken}, options)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=5)
    options = made.parse_args()
    if options.quick:
        options.runs = 1
    return options


def _start(deployment: Deployment, observer: Observer, load: Load, number: int, dsn: str) -> dict[str, Any]:
    token = f"start{number:03d}"
    key, value = maker(token, load.commits)(0)
    producer = Producer({"bootstrap.servers": deployment.servers})
    producer.produce(deployment.names.requests, value, key)
    producer.flush()
    began, clock = time.monotonic(), time.time()
    with deployment.worker(LANES, ready=False, dsn=dsn) as worker:
        seen = observer.collect(token, 1, until_s=began + PATIENCE_S)
        all_answered(seen)
        cpu = sum(sum(process.cpu_times()[:2]) for process in family(worker).values())
        said = {name: at - clock for name, at in _said(worker.log.read_text())}
    return {"outcome_s": seen[0] - began, "cpu_s": cpu, "log_s": said}


def _said(log: str) -> Iterator[tuple[str, float]]:
    """Messages of a worker's log and when they were written."""
    for line in log.splitlines():
        with contextlib.suppress(ValueError, KeyError):
            found = json.loads(line)
            yield str(found["event"]), datetime.fromisoformat(found["timestamp"]).timestamp()


if __name__ == "__main__":
    main()
