"""Rounds of runs to figures: ratios taken run by run, medians, spread, CPU beside wall time."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import figures
from benchmarks.broker import fill, judge, prepare, read_committed, remove
from benchmarks.contenders.task import Task
from benchmarks.data import requests
from benchmarks.result import Row
from benchmarks.roster import ALL, Contender
from pointsman.streams.model.server import THREAD_VARIABLES
from pointsman.streams.topics import Names

ROOT: Final = Path(__file__).resolve().parent.parent
SLOWEST: Final = 500
"""Messages a second that the slowest contender manages on the slowest machine; a run that takes longer hangs."""
START_S: Final = 120.0
"""A JVM, a compiler, a model process: what comes before the first message."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    messages: int
    warm_up: int
    runs: int
    partitions: int
    percent: float
    commits: Path | None


@dataclass(frozen=True)
class Run:
    """One contender's figures in one round."""

    messages: int
    wall_s: float
    cpu_s: float
    model_cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a message, user and system, the model process included."""
        return (self.cpu_s + self.model_cpu_s) / self.messages * 1e6


@dataclass(frozen=True)
class Measured:
    """All runs: name to one run a round, in order of rounds."""

    plan: Plan
    bytes_mean: float
    runs: dict[str, list[Run]]

    def ratios(self, name: str, base: str) -> list[float]:
        """Rates over each other, round by round: what slows a round down slows both."""
        pairs = zip(self.runs[name], self.runs[base], strict=True)
        return [one.rate / other.rate for one, other in pairs]

    def details(self) -> dict[str, Any]:
        """For the results file: plan, contenders, every run."""
        plan = {name: value for name, value in asdict(self.plan).items() if name != "commits"}
        plan["commits"] = "a file of commits" if self.plan.commits else "the git history here"
        runs = {name: [asdict(run) for run in runs] for name, runs in self.runs.items()}
        says = {name: ALL[name].says for name in self.runs}
        return {"plan": plan, "bytes_mean": self.bytes_mean, "contenders": says, "runs": runs}


def measure(servers: str, contenders: Sequence[Contender], plan: Plan) -> Measured:
    """Run everybody once a round; who comes first moves on by one. Raises where a run lost or doubled anything."""
    messages = list(requests(plan.messages + plan.warm_up, plan.commits))
    runs: dict[str, list[Run]] = {each.name: [] for each in contenders}
    for number in range(plan.runs):
        start = number % len(contenders)
        for each in (*contenders[start:], *contenders[:start]):
            run = _one(servers, each, plan, messages)
            runs[each.name].append(run)
            print(
                f"round {number + 1}: {each.name}: {run.rate:,.0f} messages/s, {run.cpu_us:.1f} µs CPU",
                flush=True,
            )
    bytes_mean = statistics.fmean(len(value) for _, value in messages[: plan.messages])
    return Measured(plan, bytes_mean, runs)


def _one(servers: str, contender: Contender, plan: Plan, messages: list[tuple[bytes, bytes]]) -> Run:
    """One run on topics of its own: the lane would know the requests of the last one as answered."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    names = Names(prefix)
    task = contender.task(
        Task(
            servers=servers,
            prefix=prefix,
            topic=names.requests,
            target=names.outcomes,
            messages=plan.messages,
            percent=plan.percent,
            run=prefix,
            warm_up=plan.warm_up,
        )
    )
    sent = messages[: task.warm_up + task.messages]
    prepare(servers, prefix, partitions=plan.partitions, percent=task.percent)
    fill(servers, task.topic, sent)
    run = started(contender, task)
    answers = judge(sent, read_committed(servers, task.target), decides=contender.decides)
    fault = answers.fault(exactly_once=contender.exactly_once)
    if fault:
        raise SystemExit(f"{contender.name} does not count: {fault}")
    remove(servers, prefix)
    return run


def started(contender: Contender, task: Task) -> Run:
    """Start a contender, wait for its line of figures."""
    limit_s = START_S + (task.messages + task.warm_up) / SLOWEST
    done = subprocess.run(
        contender.command(task),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=limit_s,
        # One thread for the model's library, as our model process has it: more of them wait for each other, spinning.
        env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
    )
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{contender.name} ended with {done.returncode}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


# -- figures -----------------------------------------------------------------------------------------


def rows(measured: Measured) -> list[Row]:
    """The promised ratios, as far as their contenders ran, then every contender's rate and CPU."""
    out = []
    for figure, (name, base) in figures.THROUGHPUT.items():
        if name in measured.runs and base in measured.runs:
            out.append(figure.row(measured.ratios(name, base)))
    for name, runs in measured.runs.items():
        says = ALL[name].says
        out.append(Row.of(f"{name}: {says}", "messages/s", [run.rate for run in runs], better="higher"))
        out.append(Row.of(f"{name}: CPU a message", "µs", [run.cpu_us for run in runs], better="lower"))
        if name != "bare":
            over = measured.ratios(name, "bare")
            out.append(Row.of(f"{name} over the bare loop", "×", over, better="higher"))
    return out


def show(measured: Measured) -> None:
    """The table for people."""
    plan = measured.plan
    title = f"{plan.messages:,} requests, {plan.partitions} partitions, medians of {plan.runs} (min-max)"
    table = Table(title=title)
    for column in (
        "contender",
        "messages/s",
        "CPU µs a message",
        "of it model process",
        "over the bare loop",
    ):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for name, runs in measured.runs.items():
        model = [run.model_cpu_s / run.messages * 1e6 for run in runs]
        table.add_row(
            f"{name}: {ALL[name].says}",
            _spread([run.rate for run in runs], ",.0f"),
            _spread([run.cpu_us for run in runs], ".1f"),
            _spread(model, ".1f") if any(model) else "",
            _spread(measured.ratios(name, "bare"), ".2f"),
        )
    Console(width=150).print(table)


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"
