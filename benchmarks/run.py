"""Throughput: contenders on one broker with the same messages, interleaved. Prints a table, writes JSON.

python -m benchmarks.run --messages 200000 --runs 5 --commits commits.jsonl.gz --only lane,faust
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import roster, throughput
from benchmarks.broker import broker
from benchmarks.result import RESULTS, write


def main() -> None:
    """Measure, print, write."""
    options = parser().parse_args()
    contenders = roster.able(roster.chosen(options.only))
    with broker() as servers:
        measured = throughput.measure(servers, contenders, plan(options))
    throughput.show(measured)
    print(f"written to {write('throughput', throughput.rows(measured), measured.details(), options.out)}")


def plan(options: argparse.Namespace) -> throughput.Plan:
    """The command line's wishes."""
    return throughput.Plan(
        messages=options.messages,
        warm_up=options.messages if options.warm_up is None else options.warm_up,
        runs=options.runs,
        partitions=options.partitions,
        percent=options.percent,
        commits=options.commits,
    )


def parser() -> argparse.ArgumentParser:
    """The options; `benchmarks.check` has the same with other defaults."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--messages", type=int, default=200_000)
    given.add_argument("--warm-up", type=int, help="messages before a hot contender's; default: as many")
    given.add_argument("--runs", type=int, default=5)
    given.add_argument("--partitions", type=int, default=4)
    given.add_argument("--percent", type=float, default=50.0, help="share of the model arm")
    given.add_argument("--commits", type=Path, help="commit file; default: the git history here")
    given.add_argument("--only", default="", help="contenders, separated by commas; default: all")
    given.add_argument("--out", type=Path, default=RESULTS / "throughput.json")
    return given


if __name__ == "__main__":
    main()
