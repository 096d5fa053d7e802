"""A burst of 20 times what the workers can take, for a minute: nothing lost, memory bounded, behind and not dead."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from tests.chaos import evidence
from tests.chaos.load import Load
from tests.chaos.plan import JOINER
from tests.chaos.run import FLUSH_S, Run

THROTTLE: Final = {"batch_records_max": "5", "commit_interval_ms": "300"}
"""A capacity that one producer can exceed twentyfold: with the defaults that would be a million a second."""
FULL: Final = {"batch_records_max": "500", "commit_interval_ms": "20"}
"""The defaults again: an operator adds capacity."""
TIMES: Final = 20
BURST_S: Final = 60.0
PROBE_S: Final = 15.0
"""How long capacity is measured, at a load far above it."""
HEALTH_EVERY_S: Final = 2.0


class Burst(Run):
    """The plan's ``rate`` is that of the probe, which must be more than the workers can take."""

    def play(self) -> None:
        """Probe, burst, lift the limits. What was seen goes into the figures."""
        self.stage.settings |= THROTTLE
        self.stage.open()
        load = Load(self.stage.broker.bootstrap, self.stage.pipeline.names, self.plan)
        self._began = time.monotonic()
        load.start()
        self._for(PROBE_S / 3)
        at, before = self.now(), self._answered()
        self._for(PROBE_S)
        capacity = (self._answered() - before) / (self.now() - at)
        if capacity > 0.7 * self.plan.rate:
            self.result.findings.append(f"the probe of {self.plan.rate}/s was no more than can be taken")
        self._say(f"  {self.now():7.1f} s  capacity {capacity:.0f}/s; burst of {TIMES * capacity:.0f}/s")
        at, sent = self.now(), len(load.truth.sent)
        load.rate = TIMES * capacity
        seen = self._for(BURST_S)
        rate = (len(load.truth.sent) - sent) / (self.now() - at)
        left = load.finish(FLUSH_S)
        self.truth = load.truth
        seen += self._for(HEALTH_EVERY_S * 3)
        self._judge_burst(seen, left, rate / capacity)
        self.result.figures |= {
            "capacity_per_s": round(capacity),
            "burst_per_s": round(rate),
            "backlog": len(load.truth.sent) - self._answered(),
            "conditions": dict(seen),
        }
        self.result.done.append("burst")
        self._lift()

    def _judge_burst(self, seen: Counter[str], left: int, times: float) -> None:
        findings = self.result.findings
        if left:
            findings.append(f"the broker has not taken {left} records {FLUSH_S:.0f} s after the burst")
        if times < 0.9 * TIMES:
            findings.append(
                f"the burst was {times:.1f} times the capacity, not {TIMES}: the machine is too busy"
            )
        if not seen["decisions behind"]:
            findings.append("no worker said that it was behind")
        for what, count in seen.items():
            if what.endswith(("stalled", "dead")):
                findings.append(f"{what}, {count} times during the burst")

    def _for(self, seconds: float) -> Counter[str]:
        """Let the time pass; what the members said of themselves meanwhile, by lane."""
        until, next_look = self.now() + seconds, 0.0
        seen: Counter[str] = Counter()
        while self.now() < until:
            self._tick()
            if self.now() > next_look:
                next_look = self.now() + HEALTH_EVERY_S
                for name, health in self.stage.health().items():
                    if health is None:
                        seen[f"{name} dead"] += 1
                    for lane, report in (health or {"lanes": {}})["lanes"].items():
                        seen[f"{lane} {report['condition']}"] += 1
        return seen

    def _answered(self) -> int:
        """Offsets of the outcomes, transaction markers included: near enough to a count of batches' records."""
        names = self.stage.pipeline.names
        found = evidence.ends(self.stage.broker.bootstrap, names.outcomes, "read_committed")
        markers = 1 + int(THROTTLE["batch_records_max"])
        return sum(found.values()) * (markers - 1) // markers

    def _lift(self) -> None:
        """Each member again with the usual settings, one after another."""
        self._say(f"  {self.now():7.1f} s  the limits are lifted, worker by worker")
        for name, member in self.stage.members.items():
            member.options |= FULL
            if name != JOINER:
                member.stop()
                member.start()
                assert member.process is not None
                member.process.wait_ready()
