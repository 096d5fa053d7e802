"""Memory: resident size of a worker's two processes over a million decisions, with the ids that it remembers and without.

    python -m benchmarks.memory [--quick] [--messages 1000000]

Requests come faster than they are decided, so that all buffers are full: more than that a worker never holds. What it
keeps by key, the ids of answered requests, has a budget of its own (`duplicate_ids_max`), so the bound is over a worker
that may remember next to none; what the default adds is shown beside it.
"""

from __future__ import annotations

import argparse
import secrets
from dataclasses import asdict
from statistics import mean
from typing import Any, Final

from benchmarks.load.deployment import broker, deployed
from benchmarks.load.generator import Generator, Kept, Offer
from benchmarks.load.options import finish, parser
from benchmarks.load.progress import Look, looks
from benchmarks.result import Row

OFFERED = 100_000.0
"""Requests a second: more than a worker decides."""
SAMPLES = 20
WARM = 2
"""Of the samples: a tenth, after which every code path has run."""
KEYED: Final[dict[str, dict[str, str]]] = {
    "keyed state aside": {"duplicate_ids_max": "1000"},
    "with the default of remembered ids": {},
}
"""Settings of the two passes; the first has the bound."""


def main() -> None:
    """Measure, print, write."""
    options = _options()
    rows: list[Row] = []
    details: dict[str, Any] = {}
    for number, (name, settings) in enumerate(KEYED.items()):
        samples, kept = _pass(options, settings)
        rows += _rows(name, samples, bounded=number == 0)
        details[name] = {"samples": [asdict(each) for each in samples], "generator": asdict(kept)}
    finish("memory", rows, details, options)


def _pass(options: argparse.Namespace, settings: dict[str, str]) -> tuple[list[Look], Kept]:
    """A broker, a worker with these settings, and all messages."""
    with broker() as servers, deployed(servers, options.partitions) as deployment:
        commits = str(options.commits or "")
        offer = Offer(servers, deployment.names.requests, secrets.token_hex(4), OFFERED, options.messages, commits=commits)  # fmt: skip
        with deployment.worker(**settings) as worker, Generator(offer) as generator:
            samples = _every(list(looks(worker, options.messages)), options.messages // SAMPLES)
            return samples, generator.finish()


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--messages", type=int, default=1_000_000)
    made.add_argument("--partitions", type=int, default=4)
    options = made.parse_args()
    if options.quick:
        options.messages = min(options.messages, 100_000)
    return options


def _every(seen: list[Look], step: int) -> list[Look]:
    """The first look of each step."""
    found: dict[int, Look] = {}
    for look in seen:
        found.setdefault(look.decided // step, look)
    return list(found.values())


def _rows(keyed: str, samples: list[Look], *, bounded: bool) -> list[Row]:
    rows = []
    for name in ("lane", "model", "both"):
        sizes = [sum(s.rss_mb.values()) if name == "both" else s.rss_mb[name] for s in samples]
        bounds = {"at_least": 300.0, "aim": 200.0} if name == "both" and bounded else {}
        greatest = max(sizes[WARM:])
        rows.append(
            Row.of(f"{keyed}, {name}: greatest after warm-up", "MB", [greatest], better="lower", **bounds)
        )
        fifth = len(sizes) // 5
        grown = mean(sizes[-fifth:]) - mean(sizes[fifth : 2 * fifth])
        rows.append(Row.of(f"{keyed}, {name}: last fifth over second fifth", "MB", [grown], better="lower"))
    return rows


if __name__ == "__main__":
    main()
