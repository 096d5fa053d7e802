"""Keyed state: how long a restore of many keys takes, from the changelog and from a local snapshot, and what a key costs.

    python -m benchmarks.state [--quick] [--runs 3] [--keys 1000000]

The changelog of one partition on a real broker is filled with values of 20 a unit; then it is restored with and without
the local snapshot that the first restore leaves, in turn, in a process of its own each time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from aiokafka import TopicPartition
from confluent_kafka import Producer

from benchmarks.load.deployment import broker
from benchmarks.load.options import finish, parser
from benchmarks.result import Row
from pointsman.models.state import NOTHING, KeyedState, Learned, Limits, Units
from pointsman.streams.state.changelog import records
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.restore import restore
from pointsman.streams.state.snapshot import Snapshot

TOPIC: Final = "bench-state"
AGENT: Final = "bench"
PER_UNIT: Final = 20
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
    finish("state", rows, {"keys": options.keys, "runs": found}, options)


def _fill(servers: str, keys: int) -> None:
    units = Units(STATE)
    for n in range(keys):
        unit = f"organisation/repository-{n // PER_UNIT}"
        units.load(("value", unit, f"d:src/part{n % PER_UNIT}"), (1.8e9 + n, n % 9, n % 3, 0.5, 0.25))
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 2_000_000}
    )
    for key, value in records(AGENT, units):
        producer.produce(TOPIC, value, key, partition=0)
    assert producer.flush(120) == 0, "the broker took not all records"


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
