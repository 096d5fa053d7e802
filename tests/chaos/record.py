"""The record of runs in docs/chaos.md: one line of JSON each, and the table made from all of them.

`python -m tests.chaos.record FILE...` adds the runs of files that `--json` wrote.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "chaos.md"
RECORDS: Final = PAGE.with_name("chaos.jsonl")
BEGIN, END = "<!-- runs: begin -->", "<!-- runs: end -->"


def add(found: dict[str, Any], page: Path = PAGE, records: Path = RECORDS) -> None:
    """Append a run, as `Result.to_dict` has it, and make the table anew."""
    kept = {name: found[name] for name in KEPT} | {
        "findings": [FOLDERS.sub("…/", finding) for finding in found["findings"]],
        "plan": {name: found["plan"][name] for name in PLAN},
        "kinds": dict(sorted(Counter(found["done"]).items())),
    }
    with records.open("a") as file:
        file.write(json.dumps(kept) + "\n")
    page.write_text(with_table(page.read_text(), read(records)))


FOLDERS: Final = re.compile(r"(?<![\w:/])/(?:[^\s/'\"]+/)+")
"""Where a file lies on one machine is nobody else's business."""
PLAN: Final = ("name", "seed", "layout", "rate", "partitions", "seconds")
KEPT: Final = ("began", "clean", "findings", "left_out", "counts", "figures", "versions", "seconds")


def read(records: Path = RECORDS) -> list[dict[str, Any]]:
    """All runs."""
    return [json.loads(line) for line in records.read_text().splitlines()]


def with_table(page: str, runs: list[dict[str, Any]]) -> str:
    """The page with the table of these runs between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(runs)}\n{END}{after}"


def table(runs: list[dict[str, Any]]) -> str:
    """One row a run, and a line with the sums."""
    lines = [
        "| began | plan | seed | sink | faults | requests and feedback | outcomes | refused | repeated | highest RSS | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        plan, counts = run["plan"], run["counts"]
        lines.append(
            f"| {run['began'][:16].replace('T', ' ')} | {plan['name']}, {plan['seconds']:.0f} s | {plan['seed']} "
            f"| {plan['layout']} | {counts.get('faults', 0)} | {counts.get('sent', 0):,} "
            f"| {counts.get('outcomes', 0):,} | {counts.get('dead_letters', 0):,} | {counts.get('duplicates', 0):,} "
            f"| {run['figures'].get('rss_max_mb', 0)} MiB | {verdict(run)} |"
        )
    good = [run for run in runs if not serious(run)]
    total, without = (sum(run["counts"].get("faults", 0) for run in each) for each in (runs, good))
    outcomes = sum(run["counts"].get("outcomes", 0) for run in good)
    lines += [
        "",
        (
            f"{len(runs)} runs with {total:,} faults. In {len(good)} of them, with {without:,} faults and {outcomes:,} "
            "outcomes, nothing was lost, doubled, wrong or left behind."
        ),
    ]
    return "\n".join(lines)


LOG: Final = "in a log"
"""How a finding begins that is a line in a log and no more."""


def serious(run: dict[str, Any]) -> list[str]:
    """Findings beyond lines in logs."""
    return [finding for finding in run["findings"] if not finding.startswith(LOG)]


def verdict(run: dict[str, Any]) -> str:
    """A run in a word or two."""
    wrong = len(serious(run))
    lines = len(run["findings"]) - wrong
    said = [_many(wrong, "finding"), _many(lines, "unexplained kind") + " of log lines" * bool(lines)]
    return ", ".join(filter(None, said)) or "clean"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}" if count else ""


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for run in json.loads(Path(name).read_text()):
            add(run)
