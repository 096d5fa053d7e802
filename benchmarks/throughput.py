"""Rounds of runs to figures: ratios taken run by run, medians, spread, CPU beside wall time."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import figures
from benchmarks.broker import Pair, fill, judge, prepare, read_committed, remove
from benchmarks.contenders.task import Task
from benchmarks.data import examples, requests
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
    """Slow contenders get a share of them: a rate does not depend on their number, an evening does."""
    warm_up: int
    runs: int
    partitions: int
    percent: float
    commits: Path | None
    examples: bool = False
    """The agent's examples in place of commits: the same messages in every clone."""
    budget_s: float | None = None
    """No round begins that would end later, if it takes as long as the one before; the first always runs."""


@dataclass(frozen=True)
class Run:
    """One contender's figures in one round."""

    messages: int
    wall_s: float
    cpu_s: float
    model_cpu_s: float = 0.0
    fell_back: float = 0.0
    """Share of the outcomes that the rules gave in the model's place."""

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
        noise = reasons(self)
        return {
            "plan": plan,
            "noise": noise,
            "bytes_mean": self.bytes_mean,
            "contenders": says,
            "runs": runs,
        }


def measure(servers: str, contenders: Sequence[Contender], plan: Plan) -> Measured:
    """Run everybody once a round; who comes first moves on by one. Raises where a run lost or doubled anything."""
    count = plan.messages + plan.warm_up
    messages = list(examples(count) if plan.examples else requests(count, plan.commits))
    runs: dict[str, list[Run]] = {each.name: [] for each in contenders}
    if plan.warm_up:  # the broker's compiler: a young one is slow, and most so for many small requests
        one(servers, contenders[0], plan, messages)
    began = ended = time.monotonic()
    for number in range(plan.runs):
        round_s, ended = time.monotonic() - ended, time.monotonic()
        if number and plan.budget_s is not None and ended - began + round_s > plan.budget_s:
            print(f"{number} of {plan.runs} rounds: there is no time for another")
            break
        start = number % len(contenders)
        for each in (*contenders[start:], *contenders[:start]):
            run = one(servers, each, plan, messages)
            runs[each.name].append(run)
            print(
                f"round {number + 1}: {each.name}: {run.rate:,.0f} messages/s, {run.cpu_us:.1f} µs CPU"
                + (f", {run.fell_back:.1%} fell back to rules" if run.fell_back else ""),
                flush=True,
            )
    bytes_mean = statistics.fmean(len(value) for _, value in messages[: plan.messages])
    return Measured(plan, bytes_mean, runs)


def one(
    servers: str,
    contender: Contender,
    plan: Plan,
    messages: list[Pair],
    keep: Callable[[list[Pair]], None] = lambda _: None,
) -> Run:
    """One run on topics of its own: the lane would know the requests of the last one as answered.

    ``keep`` gets its outcomes. Raises SystemExit where it does not count.
    """
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    names = Names(prefix)
    task = contender.task(
        Task(
            servers=servers,
            prefix=prefix,
            topic=names.requests,
            target=names.outcomes,
            messages=round(plan.messages * contender.share),
            percent=plan.percent,
            run=prefix,
            warm_up=plan.warm_up,
        )
    )
    sent = messages[: task.warm_up + task.messages]
    prepare(servers, prefix, partitions=plan.partitions, percent=task.percent)
    fill(servers, task.topic, sent)
    run = started(contender, task)
    outcomes = read_committed(servers, task.target)
    keep(outcomes)
    answers = judge(sent, outcomes, decides=contender.decides)
    fault = answers.fault(exactly_once=contender.exactly_once)
    if fault:
        raise SystemExit(f"{contender.name} does not count: {fault}")
    remove(servers, prefix)
    return replace(run, fell_back=answers.fell_back)


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


# -- noise ------------------------------------------------------------------------------------------

CPU_SPREAD: Final = 0.15
"""The bare loop does the same work each time: on a machine of its own its CPU a message stays within a tenth."""
BUSY: Final = 0.5
"""The bare loop has a processor nearly to itself on a quiet machine; with less than half of one, it waits for neighbours."""
ROUNDS: Final = 3
"""Fewer say nothing of their spread."""
RATIO_SPREAD: Final = 0.25
"""What slows a round down slows both: ratios of quiet rounds stay within a fifth, also of short ones."""
FELL_BACK: Final = 0.02
"""A model process that gets no processor misses its deadline, the rules answer, and less was done."""


def reasons(measured: Measured) -> list[str]:
    """Why the figures are not to be trusted; empty on a quiet machine."""
    found = []
    rounds = len(measured.runs["bare"])
    if rounds < measured.plan.runs:
        found.append(f"only {rounds} of {measured.plan.runs} rounds within {measured.plan.budget_s} s")
    elif rounds < ROUNDS:
        found.append(f"{rounds} rounds, where {ROUNDS} tell a spread")
    busy = min(run.cpu_s / run.wall_s for run in measured.runs["bare"])
    if busy < BUSY:
        found.append(f"the bare loop had {busy:.0%} of a processor in a round (quiet: {BUSY:.0%} and more)")
    cpu = spread([run.cpu_us for run in measured.runs["bare"]])
    if cpu > CPU_SPREAD:
        found.append(
            f"the bare loop's CPU a message differs by {cpu:.0%} between rounds (quiet: {CPU_SPREAD:.0%})"
        )
    for name, runs in measured.runs.items():
        apart = spread(measured.ratios(name, "bare"))
        if apart > RATIO_SPREAD:
            found.append(
                f"{name} over bare differs by {apart:.0%} between rounds (quiet: {RATIO_SPREAD:.0%})"
            )
        fell_back = max(run.fell_back for run in runs)
        if fell_back > FELL_BACK:
            found.append(f"{name}: in {fell_back:.0%} of a run the rules answered for a model that was late")
    return found


def spread(values: Sequence[float]) -> float:
    """Greatest less least, over the median."""
    return (max(values) - min(values)) / statistics.median(values)


# -- figures -----------------------------------------------------------------------------------------


def rows(measured: Measured) -> list[Row]:
    """The promised ratios, as far as their contenders ran, then every contender's rate and CPU."""
    out = []
    for line, (name, base) in figures.RATIOS.items():
        if name in measured.runs and base in measured.runs:
            out.append(line.row(measured.ratios(name, base)))
    for ours, others in figures.LIKE_WITH_LIKE.values():
        for theirs in others:
            if ours in measured.runs and theirs in measured.runs:
                what = figures.like_with_like(ours, theirs)
                out.append(Row.of(what, "×", measured.ratios(ours, theirs), better="higher"))
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
    for reason in reasons(measured):
        print(f"noisy: {reason}")


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"
