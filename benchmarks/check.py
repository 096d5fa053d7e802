"""`make bench-check`: a short form, its ratios beside the committed ones. Prints, and fails where one fell too far.

    python -m benchmarks.check              compare with benchmarks/results/check.json
    python -m benchmarks.check --write      measure the short form to be compared with, on a quiet machine

Never absolute times: they say more about the machine. A noisy machine, or one of another kind, fails nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import roster, throughput
from benchmarks.broker import broker
from benchmarks.result import RESULTS, Row, machine, write

CONTENDERS: Final = "bare,lane,lane_identity"
"""What changes of ours change. The others are slow, and need packages or a JVM that gets hot too late for a short form."""
MESSAGES: Final = 20_000
RUNS: Final = 3
BUDGET_S: Final = 75.0
"""A quiet machine takes half of it. A crowded one stops after as many rounds as fit, and fails nothing."""
REFERENCE: Final = RESULTS / "check.json"


@dataclass(frozen=True)
class Limit:
    """How far a ratio may fall behind the committed one."""

    what: str
    name: str
    base: str
    tolerance: float
    why: str
    cpu: bool = False
    """CPU a message in place of the rate; then lower is better."""


LIMITS: Final = (
    Limit(
        "lane over bare: CPU",
        "lane",
        "bare",
        0.30,
        "1.17 to 1.43 were seen of one code on one machine",
        cpu=True,
    ),
    Limit(
        "lane over bare: rate", "lane", "bare", 0.30, "a second of wall time, in which one stall is a tenth"
    ),
    Limit(
        "lane without a decision over bare: CPU",
        "lane_identity",
        "bare",
        0.25,
        "so little CPU that the first fetches of a run show",
        cpu=True,
    ),
)
"""All tolerances, in one place. The spread of quiet rounds is within half of each."""


@dataclass(frozen=True)
class Verdict:
    """One ratio beside the committed one."""

    limit: Limit
    committed: float | None
    found: float

    @property
    def worse(self) -> float:
        """By how much it is worse, as a share of the committed ratio; below zero: better."""
        assert self.committed is not None, "nothing is committed"
        change = self.found / self.committed - 1
        return change if self.limit.cpu else -change

    @property
    def failed(self) -> bool:
        """Beyond the tolerance. What nobody committed cannot fail."""
        return self.committed is not None and self.worse > self.limit.tolerance

    def __str__(self) -> str:
        if self.committed is None:
            return f"{self.limit.what}: {self.found:.3g}, nothing committed to compare with"
        word = "worse" if self.worse > 0 else "better"
        text = f"{self.limit.what}: {self.found:.3g}, committed {self.committed:.3g}, {abs(self.worse):.0%} {word}"
        allowed = f"{self.limit.tolerance:.0%} allowed: {self.limit.why}"
        return f"{'FAILED ' if self.failed else ''}{text} ({allowed})"


def compare(committed: Mapping[str, float], found: Mapping[str, float]) -> list[Verdict]:
    """A verdict a limit, on ratios by `Limit.what`. Raises KeyError where a ratio was not measured."""
    return [Verdict(limit, committed.get(limit.what), found[limit.what]) for limit in LIMITS]


def conclude(verdicts: Sequence[Verdict], excuses: Sequence[str]) -> int:
    """The exit code: 1 where a ratio failed and nothing excuses it."""
    return int(any(each.failed for each in verdicts) and not excuses)


def other_machine(committed: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Why ratios of these two machines do not compare: the contenders share the processors with the broker."""
    return [
        f"committed on {committed[what]} ({what}), here {here[what]}"
        for what in ("cpus", "python")
        if _kind(committed[what]) != _kind(here[what])
    ]


def _kind(value: Any) -> str:
    """A version without its patch."""
    return ".".join(str(value).split(".")[:2])


def ratios(measured: throughput.Measured) -> dict[str, list[float]]:
    """Of every limit, round by round."""
    out = {}
    for limit in LIMITS:
        pairs = list(zip(measured.runs[limit.name], measured.runs[limit.base], strict=True))
        out[limit.what] = [
            one.cpu_us / other.cpu_us if limit.cpu else one.rate / other.rate for one, other in pairs
        ]
    return out


def main() -> int:
    """Measure the short form, compare or write."""
    options = _options()
    plan = throughput.Plan(
        messages=MESSAGES,
        warm_up=0,
        runs=RUNS,
        partitions=4,
        percent=50.0,
        commits=None,
        examples=True,
        budget_s=None if options.write else BUDGET_S,
    )
    with broker() as servers:
        measured = throughput.measure(servers, roster.chosen(CONTENDERS), plan)
    found = ratios(measured)
    noise = throughput.reasons(measured)
    if options.write:
        rows = [
            Row.of(each.what, "×", found[each.what], better="lower" if each.cpu else "higher")
            for each in LIMITS
        ]
        print(f"written to {write('check', rows, measured.details(), options.out)}")
        return 0
    content = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else None
    committed = {row["what"]: row["median"] for row in content["rows"]} if content else {}
    excuses = [*noise, *(other_machine(content["machine"], machine()) if content else [])]
    verdicts = compare(committed, {what: statistics.median(values) for what, values in found.items()})
    for each in verdicts:
        print(each)
    for excuse in excuses:
        print(f"nothing fails: {excuse}")
    return conclude(verdicts, excuses)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write what others are compared with")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/check.json")
    parser.add_argument("--commits", type=Path, help="not used: `make bench` says it to every part")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
