"""Keyed state: how long a restore of many keys takes, from the changelog and from a local snapshot, what a key costs, and
how long deciding rests while partitions grow.

    python -m benchmarks.state [--quick] [--runs 3] [--keys 1000000]

The changelog of one partition on a real broker is filled with values of 20 a unit; then it is restored with and without
the local snapshot that the first restore leaves, in turn, in a process of its own each time. The same values, spread over
four partitions by their units, are moved to eight by `pointsman topics grow`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition
from confluent_kafka import Producer

from benchmarks.broker import prepare, remove
from benchmarks.load.deployment import broker
from benchmarks.load.options import finish, parser
from benchmarks.result import Row
from pointsman.models.state import NOTHING, KeyedState, Learned, Limits, Units
from pointsman.streams.partitioner import by_murmur2
from pointsman.streams.state.changelog import records
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.restore import restore
from pointsman.streams.state.snapshot import Snapshot
from pointsman.streams.topics import Names

TOPIC: Final = "bench-state"
AGENT: Final = "bench"
PER_UNIT: Final = 20
BEFORE: Final = 4
AFTER: Final = 8
STATE: Final = KeyedState(
    version="1", note=lambda inputs: [None] * len(inputs), learn=lambda *_: Learned(NOTHING, None)
)
"""What is kept does not matter here, how much does."""


def main() -> None:
    """Measure, print, write."""
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--keys", type=int, default=1_000_000)
    made.add_argument("--restore", nargs=2, help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.quick:
        options.runs, options.keys = 1, 50_000
    if options.restore:
        print(json.dumps(asyncio.run(_restored(*options.restore))))
        return
    found: dict[str, list[dict[str, float]]] = {"changelog": [], "snapshot": []}
    with broker() as servers, tempfile.TemporaryDirectory() as folder:
        _fill(servers, options.keys)
        for _ in range(options.runs):
            for file in Path(folder).iterdir():
                file.unlink()
            for runs in found.values():
                runs.append(_in_a_process(servers, folder))
        grown = [_grown(servers, options.keys) for _ in range(options.runs)]
    rows = [
        Row.of(
            f"restore of {options.keys:,} keys from the {how}",
            "s",
            [run["seconds"] for run in runs],
            better="lower",
        )
        for how, runs in found.items()
    ]
    memory = [run["bytes"] / options.keys for runs in found.values() for run in runs]
    rows.append(Row.of("memory of a key", "B", memory, better="lower"))
    rows += [
        Row.of(
            f"growth from {BEFORE} to {AFTER} partitions with {options.keys:,} keys: {what}",
            unit,
            [run[what] for run in grown],
            better="lower",
        )
        for what, unit in (("wall", "s"), ("memory", "MiB"))
    ]
    finish("state", rows, {"keys": options.keys, "runs": found, "growth": grown}, options)


def _fill(servers: str, keys: int) -> None:
    """One partition."""
    _produce(servers, TOPIC, keys, lambda _unit: 0)


def _produce(servers: str, topic: str, keys: int, home: Callable[[str], int]) -> None:
    """``home``: a unit's partition."""
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}
    )
    for first in range(0, keys, PER_UNIT):
        unit = f"organisation/repository-{first // PER_UNIT}"
        units = Units(STATE)
        for n in range(first, min(first + PER_UNIT, keys)):
            units.load(("value", unit, f"d:src/part{n % PER_UNIT}"), (1.8e9 + n, n % 9, n % 3, 0.5, 0.25))
        for key, value in records(AGENT, units):
            producer.produce(topic, value, key, partition=home(unit))
    assert producer.flush(120) == 0, "the broker took not all records"


def _grown(servers: str, keys: int) -> dict[str, float]:
    """Seconds from the command to its end, nobody running, and the most memory that it held."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    prepare(servers, prefix, partitions=BEFORE, percent=0.0)
    _produce(servers, Names(prefix).state, keys, lambda unit: by_murmur2(unit.encode(), BEFORE))
    options = ["--kafka", servers, "--topic-prefix", prefix, "--json"]
    command = [sys.executable, "-m", "pointsman.streams.cli", "topics", "grow", "--partitions", str(AFTER)]
    began = time.perf_counter()
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the growth ended with {process.returncode}")
    moved = json.loads(said)["entries"]
    remove(servers, prefix)
    return {"wall": seconds, "memory": used.ru_maxrss / 1024, "moved": moved}


def _in_a_process(servers: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.state", "--restore", servers, folder]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


async def _restored(servers: str, folder: str) -> dict[str, Any]:
    snapshot = Snapshot(Path(folder), "topic", 0)
    state = PartitionState({}, Limits(), snapshot=snapshot)
    state.units[AGENT] = Units(STATE)
    before, began = _resident(), time.perf_counter()
    count = await restore(servers, TopicPartition(TOPIC, 0), state)
    seconds = time.perf_counter() - began
    state.close()
    return {"seconds": seconds, "bytes": _resident() - before, "from_changelog": count, "keys": len(state)}


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
