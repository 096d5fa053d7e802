"""What keyed state costs the decision lane: the same requests, decided with it and without.

    python -m benchmarks.state_lane [--quick] [--runs 5] [--commits FILE]

Each run first decides half of the commits, with nobody watching the clock. Then the other half lies on the topic, its
repository as key as in service, and a worker's lane is started and measured until all of it is committed:

- *without*: the agent keeps nothing;
- *notes*: it keeps a note of each decision and features look at what is remembered, but no feedback comes;
- *labels*: beside each request lies a label of a decision of the first half, which changes some fifteen values.

Every phase has a process of its own; a round has all three kinds, and ratios are taken within a round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.broker import Pair, broker, fill, prepare, read_committed, remove
from benchmarks.contenders.lane import decided
from benchmarks.contenders.task import Task
from benchmarks.data import changes
from benchmarks.load.options import finish, parser
from benchmarks.result import Row
from pointsman.models.agent import Agent
from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.streams import loop
from pointsman.streams.model.server import THREAD_VARIABLES
from pointsman.streams.settings import load
from pointsman.streams.topics import Names

ROOT: Final = Path(__file__).resolve().parent.parent
KINDS: Final = ("without", "notes", "labels")
PARTITIONS: Final = 4
PERCENT: Final = 50.0
RATIO: Final = 0.8
"""Of the throughput without: what must be left of it."""
LIMIT_S: Final = 600.0


@dataclass(frozen=True)
class Phase:
    """One process: a lane that reads so many records."""

    servers: str
    prefix: str
    kind: str
    folder: str
    records: int


def main() -> None:
    """Measure, print, write."""
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=5)
    made.add_argument(
        "--messages", type=int, default=80_000, help="in each half; fewer are over too soon to say much"
    )
    made.add_argument("--phase", help="of one process")
    options = made.parse_args()
    if options.phase:
        loop.run(_phase(Phase(**json.loads(options.phase))))
        return
    if options.quick:
        options.runs, options.messages = 1, 2_000
    first, second, labels = _messages(options.commits, options.messages)
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    with broker() as servers:
        for number in range(options.runs + (not options.quick)):
            start = number % len(KINDS)
            for kind in (*KINDS[start:], *KINDS[:start]):
                run = _run(servers, kind, first, second, labels)
                if number or options.quick:  # the first round warms the broker
                    runs[kind].append(run)
                    print(f"{kind}: {run['rate']:,.0f} decisions/s, {run['cpu_us']:.1f} µs CPU", flush=True)
    finish("state_lane", _rows(runs), {"messages": options.messages, "runs": runs}, options)


def _messages(commits: Path | None, count: int) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Two halves of requests, and labels of the first half's; a unit's lie together by their key."""
    requests: list[Pair] = []
    labels: list[Pair] = []
    used = changes(commits)
    step = len(used) / (2 * count)  # every repository has its share
    for number in range(2 * count):
        commit = used[int(number * step)]
        unit, name = commit.repository.encode(), f"{number:032x}"
        given = {"id": name, "agent": AGENT.name, "unit": commit.repository, "input": commit.request}
        requests.append((unit, msgspec.json.encode(given)))
        told = {
            "id": f"l{name}", "decision_id": name, "agent": AGENT.name, "unit": commit.repository,
            "observed_at": commit.landed_at, "label": commit.truth,
        }  # fmt: skip
        labels.append((unit, msgspec.json.encode(told)))
    return requests[::2], requests[1::2], labels[::2]


def _run(
    servers: str, kind: str, first: Sequence[Pair], second: Sequence[Pair], labels: Sequence[Pair]
) -> dict[str, Any]:
    """Figures of the second half. Raises SystemExit where an outcome is missing or doubled."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    names = Names(prefix)
    prepare(servers, prefix, partitions=PARTITIONS, percent=PERCENT)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        fill(servers, names.requests, first)
        _in_a_process(Phase(servers, prefix, kind, folder, len(first)))
        fill(servers, names.requests, second)
        told = labels if kind == "labels" else ()
        fill(servers, names.feedback, told)
        run = _in_a_process(Phase(servers, prefix, kind, folder, len(second) + len(told)))
    ids = Counter(key for key, _ in read_committed(servers, names.outcomes))
    if len(ids) != len(first) + len(second) or max(ids.values()) > 1:
        raise SystemExit(
            f"{kind} does not count: {len(ids)} decisions with an outcome, most {max(ids.values())}"
        )
    remove(servers, prefix)
    cpu_s = run["cpu_s"] + run["model_cpu_s"]
    return run | {"rate": len(second) / run["wall_s"], "cpu_us": cpu_s / len(second) * 1e6}


def _in_a_process(phase: Phase) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.state_lane", "--phase", json.dumps(asdict(phase))]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
    )
    return dict(json.loads(ran.stdout.splitlines()[-1]))


async def _phase(phase: Phase) -> None:
    options = {
        "kafka": phase.servers,
        "topic_prefix": phase.prefix,
        "group": f"{phase.prefix}g",
        "data_dir": phase.folder,
        "log_level": "error",
    }
    names = Names(phase.prefix)
    task = Task(
        servers=phase.servers,
        prefix=phase.prefix,
        topic=names.requests,
        target=names.outcomes,
        messages=phase.records,
        percent=PERCENT,
        run=phase.prefix,
    )
    agent = _forgetful() if phase.kind == "without" else AGENT
    await decided(task, load(options, {}).settings, {AGENT.name: agent})


def _forgetful() -> Agent:
    """The same agent, to whom every unit is new."""
    return replace(AGENT, state=None, features=AGENT.rows)


def _rows(runs: dict[str, list[dict[str, Any]]]) -> list[Row]:
    found = []
    base = [run["rate"] for run in runs["without"]]
    for kind in KINDS[1:]:
        ratios = [run["rate"] / over for run, over in zip(runs[kind], base, strict=True)]
        if kind == "labels":  # of what is read half are labels, which the lane without never sees
            found.append(Row.of(f"{kind} over without: decisions", "×", ratios, better="higher"))
            ratios = [2 * each for each in ratios]
        found.append(Row.of(f"{kind} over without: records", "×", ratios, better="higher", at_least=RATIO))
    for kind in KINDS:
        rates, cpu = ([run[what] for run in runs[kind]] for what in ("rate", "cpu_us"))
        found.append(Row.of(f"{kind}: decisions", "1/s", rates, better="higher"))
        found.append(Row.of(f"{kind}: CPU a decision", "µs", cpu, better="lower"))
    return found


if __name__ == "__main__":
    main()
