"""Growth: decisions a second of one worker with more partitions, more agents and more units, each beside the smallest.

    python -m benchmarks.growth [--quick] [--runs 3] [--messages 300000]

`pointsman worker` gets its requests at once, and its pace is taken from when all are there to the end. Before each
dimension the smallest size is measured again, and each size is compared with that one: a drifting machine does no harm.
"""

from __future__ import annotations

import argparse
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.load.agents import generate
from benchmarks.load.deployment import broker, by_model_percent, deployed, others_percent
from benchmarks.load.generator import Generator, Offer
from benchmarks.load.options import finish, parser
from benchmarks.load.progress import looks, pace
from benchmarks.result import Row

AT_ONCE = 1e9
"""A rate: as quickly as the broker takes them."""


@dataclass(frozen=True)
class Size:
    """One point of the measurement."""

    partitions: int = 4
    agents: int = 1
    units: int = 1_000
    messages: int = 300_000


def main() -> None:
    """Measure, print, write."""
    options = _options()
    base = Size(messages=options.messages)
    grown = _dimensions(base, options.quick)
    runs: list[dict[str, Any]] = []
    with broker() as servers:
        for number in range(options.runs):
            for dimension, sizes in grown.items():
                smallest = _measure(servers, base, options)
                for size in sizes:
                    found = _measure(servers, size, options)
                    of, least = getattr(size, dimension), getattr(base, dimension)
                    run = {"name": f"{dimension}: {of:,} beside {least:,}", "size": asdict(size)}
                    run |= {"others_percent": others_percent(), "smallest": smallest, "grown": found}
                    ratio = found["rate"] / smallest["rate"]
                    print(
                        f"run {number + 1}, {run['name']}: {found['rate']:,.0f}/s, {ratio:.2f} x", flush=True
                    )
                    runs.append(run)
    finish("growth", _rows(runs), {"runs": runs}, options)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument(
        "--messages", type=int, default=300_000, help="as many as units at least, where those are more"
    )
    options = made.parse_args()
    if options.quick:
        options.runs, options.messages = 1, 100_000
    return options


def _dimensions(base: Size, quick: bool) -> dict[str, list[Size]]:
    many = 100_000 if quick else 1_000_000
    return {
        "partitions": [replace(base, partitions=number) for number in (16, 64)],
        "agents": [replace(base, agents=number) for number in (10, 50)],
        # Every unit is seen at least once.
        "units": [replace(base, units=many, messages=max(many, base.messages))],
    }


def _measure(servers: str, size: Size, options: argparse.Namespace) -> dict[str, float]:
    """The pace, and whether the model did its part."""
    with deployed(servers, size.partitions) as deployment:
        agents = generate(deployment.folder / "agents", size.agents)
        offer = Offer(
            deployment.servers,
            deployment.names.requests,
            secrets.token_hex(4),
            AT_ONCE,
            size.messages,
            agents=agents,
            units=size.units,
            commits=str(options.commits or ""),
        )
        with (
            deployment.worker(agents=str(deployment.folder / "agents")) as worker,
            Generator(offer) as generator,
        ):
            seen, laid_down_s = [], 0.0
            for look in looks(worker, size.messages):
                seen.append(look)
                if generator.running:
                    laid_down_s = look.at_s
            generator.finish()
            found = asdict(pace(seen, laid_down_s, size.messages))
            return found | {"by_model_percent": by_model_percent(worker)}


def _rows(runs: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for name in dict.fromkeys(run["name"] for run in runs):
        own = [run for run in runs if run["name"] == name]
        rates = [run["grown"]["rate"] / run["smallest"]["rate"] for run in own]
        cpu = [run["grown"]["cpu_us"] / run["smallest"]["cpu_us"] for run in own]
        rows.append(
            Row.of(f"{name}: decisions a second", "x", rates, better="higher", at_least=0.8, aim=0.95)
        )
        rows.append(Row.of(f"{name}: CPU a decision", "x", cpu, better="lower"))
        by_model = [run["grown"]["by_model_percent"] for run in own]
        rows.append(
            Row.of(f"{name}: candidate's decisions answered by the model", "%", by_model, better="higher")
        )
    smallest = [run["smallest"]["rate"] for run in runs]
    rows.append(Row.of("the smallest: decisions a second", "decisions/s", smallest, better="higher"))
    return rows


if __name__ == "__main__":
    main()
