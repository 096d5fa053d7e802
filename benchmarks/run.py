"""`make bench`: the lane beside the bare loop, on one broker, interleaved. Prints a table, writes JSON.

python -m benchmarks.run --messages 200000 --runs 3 --commits commits.jsonl.gz
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.task import Task, to_json
from benchmarks.data import requests
from pointsman.streams import topics
from pointsman.streams.flags import FlagWriter
from pointsman.streams.settings import load
from pointsman.streams.topics import Names
from tests.support.kafka import KafkaServer

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = {
    "bare": "bare aiokafka loop, identity, at least once",
    "lane": "Pointsman's lane, whole decision, exactly once",
}


def main() -> None:
    """Measure, print, write."""
    options = _options()
    given = os.environ.get("POINTSMAN_TEST_KAFKA")
    with KafkaServer() if given is None else contextlib.nullcontext() as own:
        results = asyncio.run(_measure(options, given or own.bootstrap))
    _show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--percent", type=float, default=50.0, help="share of the model arm")
    parser.add_argument("--commits", type=Path, help="commit file; default: the git history here")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "lane.json")
    return parser.parse_args()


async def _measure(options: argparse.Namespace, servers: str) -> dict[str, Any]:
    messages = list(requests(options.messages, options.commits))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for number in range(options.runs):
        for name in CONTENDERS:
            # Topics of its own for each run: the lane would know the requests of the last one as answered.
            prefix = f"bench-{uuid.uuid4().hex[:8]}-"
            await _prepare(options, servers, prefix, messages)
            task = Task(servers, prefix, Names(prefix).requests, options.messages, options.percent, prefix)
            result = _run(name, task)
            runs[name].append(result)
            print(
                f"run {number + 1}: {name}: {options.messages / result['wall_s']:,.0f} messages/s", flush=True
            )
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "messages": options.messages,
        "bytes_mean": sum(len(value) for _, value in messages) / len(messages),
        "partitions": options.partitions,
        "percent": options.percent,
        "runs": runs,
    }


async def _prepare(
    options: argparse.Namespace, servers: str, prefix: str, messages: list[tuple[bytes, bytes]]
) -> None:
    settings = load({"topic_prefix": prefix, "kafka": servers, "partitions": options.partitions}, {}).settings
    admin = await topics.connect(servers)
    await topics.create(admin, settings)
    await topics.appear(admin, settings)
    await admin.close()
    writer = FlagWriter(servers, Names(prefix).flags, group=prefix)
    await writer.set("ml-agent-rollout", options.percent, by="bench")
    await _fill(servers, Names(prefix).requests, messages)


async def _fill(servers: str, topic: str, messages: list[tuple[bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=20, max_batch_size=200_000)
    await producer.start()
    futures = [await producer.send(topic, value, key=key) for key, value in messages]
    await asyncio.gather(*futures)
    await producer.stop()


def _run(name: str, task: Task) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.contenders.{name}", to_json(task)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _show(results: dict[str, Any]) -> None:
    table = Table(
        title=f"{results['messages']:,} requests, {results['partitions']} partitions, medians (min-max)"
    )
    for column in (
        "contender",
        "messages/s",
        "CPU µs a message",
        "model process µs",
        "ratio of rates, run by run",
    ):
        table.add_column(column, justify="left" if column == "contender" else "right")
    base = [run["messages"] / run["wall_s"] for run in results["runs"]["bare"]]
    for name, runs in results["runs"].items():
        rates = [run["messages"] / run["wall_s"] for run in runs]
        cpu = [run["cpu_s"] / run["messages"] * 1e6 for run in runs]
        model = [run.get("model_cpu_s", 0.0) / run["messages"] * 1e6 for run in runs]
        ratios = [rate / other for rate, other in zip(rates, base, strict=True)]
        table.add_row(
            CONTENDERS[name],
            _spread(rates, ",.0f"),
            _spread(cpu, ".1f"),
            _spread(model, ".1f") if any(model) else "",
            _spread(ratios, ".2f"),
        )
    Console(width=140).print(table)


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


if __name__ == "__main__":
    main()
