"""`python -m tests.chaos`: draw a plan from a seed (or read one), carry it out, check, and say what was found."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import faults, plan, record
from tests.chaos.burst import Burst
from tests.chaos.plan import KINDS, Plan
from tests.chaos.run import Result, Run

SIZES = {
    "short": (8, 0.75, 80),
    "default": (20, 3.0, 80),
    "long": (150, 30.0, 80),
    "soak": (0, 60.0, 100),
    "burst": (0, 1.5, 600),
}
"""Plan to its faults, minutes and requests a second, unless said otherwise."""


def main() -> int:
    """0 if every run was clean, 1 if not."""
    options = _options()
    logging.basicConfig(level=logging.WARNING)
    # so that what was started and mounted goes with us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = []
    for number in range(options.runs):
        chosen = _plan(options, options.seed + number)
        print("\n".join(chosen.lines()), flush=True)
        for kind, why in faults.missing_here().items():
            print(f"left out on this machine: {kind}: {why}")
        if options.show:
            continue
        folder = Path(options.keep or tempfile.mkdtemp(prefix="pointsman-chaos-")) / f"seed-{chosen.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(chosen.to_json())
        print(f"logs and plan: {folder}; again: python -m tests.chaos --file {folder}/plan.json", flush=True)
        kind = Burst if chosen.name == "burst" else Run
        result = kind(chosen, folder, say=lambda text: print(text, flush=True)).go()
        results.append(result)
        _say(result)
        if options.record:
            record.add(result.to_dict())
    if options.json:
        Path(options.json).write_text(json.dumps([result.to_dict() for result in results], indent=1))
    return 0 if all(result.clean for result in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="default: of the clock")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds, one after another")
    parser.add_argument("--plan", choices=sorted(SIZES), default="default")
    parser.add_argument("--file", type=Path, help="a plan that was saved")
    parser.add_argument("--faults", type=int, help="how many")
    parser.add_argument("--minutes", type=float, help="how long the load runs")
    parser.add_argument("--rate", type=int, help="requests a second")
    parser.add_argument("--show", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--keep", help="folder for plans and logs; default: a temporary one")
    parser.add_argument("--record", action="store_true", help="add the results to docs/chaos.md")
    return parser.parse_args()


def _plan(options: argparse.Namespace, seed: int) -> Plan:
    if options.file:
        return plan.load(options.file)
    count, minutes, rate = SIZES[options.plan]
    return plan.draw(
        seed,
        name=options.plan,
        faults=count if options.faults is None else options.faults,
        seconds=60 * (minutes if options.minutes is None else options.minutes),
        rate=options.rate or rate,
        without=[kind for kind in KINDS if kind in faults.missing_here()],
    )


def _say(result: Result) -> None:
    print(f"counts: {result.counts}\nfigures: {result.figures}")
    for what, why in result.left_out.items():
        print(f"left out: {what}: {why}")
    for finding in result.findings:
        print(f"FOUND: {finding}")
    verdict = "clean" if result.clean else f"{len(result.findings)} FINDINGS"
    print(f"seed {result.plan.seed}: {verdict} after {result.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
