"""One run: the stage set, the load on, the faults done in their time, all mended, drained, and checked."""

from __future__ import annotations

import contextlib
import platform
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psycopg

from tests.chaos import check, evidence, faults, watch
from tests.chaos.evidence import Evidence
from tests.chaos.load import Load, Truth
from tests.chaos.plan import Fault, Plan
from tests.chaos.stage import Stage

STEP_S: Final = 0.2
LOOK_S: Final = 2.0
"""Between two samples."""
DRAIN_S: Final = 180.0
"""All of it: a broker that reads its log again, sessions that end, transactions that time out, then the backlog."""
FLUSH_S: Final = 90.0
LAST_LINES: Final = 25
"""Of each log in a report: a few seconds of a worker in trouble."""
BROKER_AWAY: Final = re.compile("no Kafka broker answers|stopped answering during the start")
"""The one reason for which a worker may end by itself: it was started while the broker was away."""


@dataclass
class Result:
    """What a run found: no findings is a clean one."""

    plan: Plan
    findings: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """Kinds of the faults that were done, in order."""
    left_out: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    began: str = ""
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, wrong, left behind or unexplained."""
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        return {**asdict(self), "clean": self.clean}


class Run:
    """A plan under way."""

    def __init__(self, plan: Plan, folder: Path, *, say: Any = print) -> None:
        self.plan = plan
        self.stage = Stage(plan, folder)
        self.watch = watch.Watch()
        self.result = Result(plan)
        self.found: Evidence | None = None
        self.truth: Truth | None = None
        self._say = say
        self._began = 0.0
        self._looked = 0.0
        self._held_s = 0.0

    def go(self) -> Result:
        """All of it. Servers and members are gone afterwards."""
        began = time.monotonic()
        self.result.began = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self.play()
            self.judge()
            self.end()
        finally:
            self.stage.close()
        self.result.seconds = round(time.monotonic() - began, 1)
        return self.result

    def report(self) -> str:
        """All that was found, and the end of each member's logs, which are gone with their folder."""
        result = self.result
        parts = [f"{len(result.findings)} findings after {len(result.done)} faults", *result.findings]
        parts += [f"left out: {fault}: {why}" for fault, why in result.left_out.items()]
        for log in (log for member in self.stage.members.values() for log in member.logs):
            parts.append(f"-- the end of {log.name}")
            parts += (
                log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.exists() else ["(nothing)"]
            )
        return "\n".join(parts)

    # -- the load and the faults -----------------------------------------------------------------

    def play(self) -> None:
        """The load, and each fault in its time."""
        self.stage.open()
        load = Load(self.stage.broker.bootstrap, self.stage.pipeline.names, self.plan)
        self._began = time.monotonic()
        load.start()
        waiting = sorted(self.plan.faults, key=lambda fault: fault.at_s)
        under_way: list[tuple[float, Fault, faults.End]] = []
        while waiting or under_way or self.plan_now() < self.plan.seconds:
            for item in [item for item in under_way if item[0] <= self.plan_now()]:
                under_way.remove(item)
                self._end(item[1], item[2])
            if waiting and waiting[0].at_s <= self.plan_now():
                fault = waiting.pop(0)
                self._begin(fault, under_way, load)
            self._tick()
        left = load.finish(FLUSH_S)
        self.truth = load.truth
        if left:
            self.result.findings.append(
                f"the broker has not taken {left} records {FLUSH_S:.0f} s after all faults {self.truth.fatal}".rstrip()
            )

    def _begin(self, fault: Fault, under_way: list[tuple[float, Fault, faults.End]], load: Load) -> None:
        self._say(f"  {self.now():7.1f} s  {fault.kind} {fault.target}")
        try:
            with self._held():
                end = faults.begin(fault, self.stage, load)
        except faults.NotPossible as reason:
            self.result.left_out[f"{fault.kind} {fault.target} at {fault.at_s}"] = str(reason)
            self._say(f"             left out: {reason}")
            return
        self.result.done.append(fault.kind)
        under_way.append((self.plan_now() + fault.for_s, fault, end))

    def _end(self, fault: Fault, end: faults.End) -> None:
        if fault.for_s:
            self._say(f"  {self.now():7.1f} s  {fault.kind} {fault.target} ends")
        with self._held():
            end()

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the plan's clock meanwhile: a broker that needs a minute to start must not bring the rest at once."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._held_s += time.monotonic() - began

    def _tick(self) -> None:
        self.stage.tend(self.now())
        if self.now() - self._looked > LOOK_S:
            self._looked = self.now()
            self.watch.look(self.stage, self.now())
        time.sleep(STEP_S)

    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._began

    def plan_now(self) -> float:
        """The same on the plan's clock, which stands still while a fault begins or ends."""
        return self.now() - self._held_s

    # -- afterwards ------------------------------------------------------------------------------

    def judge(self) -> None:
        """Wait until all is drained, then read everything and check it."""
        assert self.truth is not None
        deadline = time.monotonic() + DRAIN_S
        reason = "never looked"
        while reason and time.monotonic() < deadline:
            self._tick()
            reason = self._not_drained()
        self.result.figures["drained_after_s"] = round(time.monotonic() - deadline + DRAIN_S, 1)
        if reason:
            self.result.findings.append(f"not drained {DRAIN_S:.0f} s after all faults: {reason}")
        stage = self.stage
        self.found = evidence.collect(stage.broker.bootstrap, stage.database.dsn, stage.pipeline.names)
        self.result.findings += check.check(
            self.truth, self.found, stage.pipeline.names.requests, stage.pipeline.names.retries
        )
        self._count(self.truth, self.found)

    def _not_drained(self) -> str:
        """Why not yet; empty once every member is healthy and has nothing left."""
        for name, health in self.stage.health().items():
            if health is None:
                return f"{name} does not answer"
            if not (health["healthy"] and health["ready"]):
                return f"{name} is not healthy and ready: {health['lanes']}"
            if not health["control_plane"]:
                return f"the control plane of {name} is down"
            if any(lane["lag_records"] or lane["waiting_records"] for lane in health["lanes"].values()):
                return f"{name} has lag: {health['lanes']}"
        names = self.stage.pipeline.names
        ends = sum(evidence.ends(self.stage.broker.bootstrap, names.requests, "read_committed").values())
        with psycopg.connect(self.stage.database.dsn) as connection:
            query = (
                "SELECT topic, sum(requests), sum(retrying) FROM ml_learning.lane_ledger"
                " JOIN ml_learning.kafka_topics AS t ON t.id = topic_id GROUP BY topic"
            )
            ledgers = {topic: counts for topic, *counts in connection.execute(query).fetchall()}
        counted, again = ledgers.get(names.requests, (0, 0))
        # Requests are not sent in transactions: each offset is one.
        if counted < ends:
            return f"the ledger knows {counted} of {ends} requests"
        ended, _ = ledgers.get(names.retries[-1], (0, 0))
        return "" if ended >= again else f"{ended} of {again} requests have had all their attempts"

    def _count(self, truth: Truth, found: Evidence) -> None:
        totals = sorted(each.total_ms for _, each in found.outcomes) or [0.0]
        self.result.figures["latency_ms"] = {
            f"p{share}": round(totals[min(len(totals) - 1, len(totals) * share // 100)], 1)
            for share in (50, 95, 99)
        }
        self.result.counts = {
            "faults": len(self.result.done),
            "sent": len(truth.sent),
            "acknowledged": sum(each.acknowledged for each in truth.sent),
            "producers_replaced": truth.replaced,
            "outcomes": len(found.outcomes),
            "by_model": sum(each.by_ml for _, each in found.outcomes),
            "fallbacks": sum(each.fallback is not None for _, each in found.outcomes),
            "dead_letters": len(found.letters),
            "duplicates": sum(sums["duplicates"] for sums in found.ledger.values()),
            "rows": len(found.rows),
            "shadow_rows": found.shadows,
            "labels": len(found.labels),
        }

    def end(self) -> None:
        """Stop everything in order, and see what is left."""
        stage, findings = self.stage, self.result.findings
        stage.stop_members()
        findings += stage.faults_found
        findings += [f"left behind: {each}" for each in stage.leftovers()]
        findings += [f"a database connection left behind: {each}" for each in stage.database.sessions()]
        findings += self.watch.findings()
        for ended in stage.ended:
            if not BROKER_AWAY.search(ended.words):
                findings.append(f"{ended.member} ended by itself with code {ended.code}: {ended.words}")
        logs = [log for member in stage.members.values() for log in member.logs]
        strange = watch.unexplained(logs, self.result.done)
        findings += [f"in a log, {count} times: {words}" for words, count in sorted(strange.items())]
        figures = self.result.figures
        figures |= self.watch.figures()
        figures["ended_by_themselves"] = dict(Counter(ended.member for ended in stage.ended))
        self.result.versions = versions(stage)


def versions(stage: Stage) -> dict[str, str]:
    """Of what took part."""
    with psycopg.connect(stage.database.dsn) as connection:
        server = connection.execute("SHOW server_version").fetchall()[0][0]
    return {
        "pointsman": version("pointsman"),
        "python": platform.python_version(),
        "aiokafka": version("aiokafka"),
        "kafka": "4.1.1",
        "postgresql": str(server).split()[0],
    }
