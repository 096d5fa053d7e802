"""The promise's last line, from the record of `make chaos`: what the account of every record found, run by run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import LOST_OR_DOUBLED

RECORDS: Final = Path(__file__).resolve().parent.parent / "docs" / "chaos.jsonl"
FAULTS: Final = 200
"""The newest runs count, until they have so many faults together."""
LOGS: Final = "in a log, "
"""A finding that begins so is an unexplained error in a log; all others are of the account."""
UNSENT: Final = "the broker has not taken "
"""And so that of a run whose load came to a stop: its faults count for nothing, but what was lost in it was lost."""


def newest(runs: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs that count, the newest first; and those among them in time that do not, for their load stopped."""
    found: list[dict[str, Any]] = []
    stopped: list[dict[str, Any]] = []
    for run in sorted(runs, key=lambda each: str(each["began"]), reverse=True):
        if sum(each["counts"].get("faults", 0) for each in found) >= FAULTS:
            break
        stood = any(finding.startswith(UNSENT) for finding in run["findings"])
        whole = not stood and not run["counts"].get("producers_replaced")
        (found if whole else stopped).append(run)
    return found, stopped


def result(records: Path = RECORDS) -> dict[str, Any] | None:
    """As a results file has it; None while there is no record, or too few faults are in it."""
    if not records.is_file():
        return None
    runs, stopped = newest([json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()])
    faults = sum(each["counts"].get("faults", 0) for each in runs)
    if faults < FAULTS:
        return None
    all_findings = [finding for run in (*runs, *stopped) for finding in run["findings"]]
    account = sum(not finding.startswith((LOGS, UNSENT)) for finding in all_findings)
    details = {
        "faults": faults,
        "runs": len(runs),
        "outcomes": sum(run["counts"].get("outcomes", 0) for run in runs),
        "findings": account,
        "seeds": sorted(run["plan"]["seed"] for run in runs),
        "stopped": sorted(run["plan"]["seed"] for run in stopped),
    }
    # Of all runs together: a median of them would not see one loss in ten.
    return {"rows": [asdict(LOST_OR_DOUBLED.row([account]))], "details": details}


def says(details: dict[str, Any]) -> str:
    """Where the figure is from."""
    seeds = ", ".join(map(str, details["seeds"]))
    lost = details["findings"]
    account = f"{lost} finding{'s' * (lost > 1)} in the account" if lost else "every record accounted for"
    stopped = ", ".join(map(str, details["stopped"]))
    without = f"; without those whose load stopped: {stopped}" if stopped else ""
    return (
        f"- chaos: the newest {details['runs']} runs, {details['faults']} faults, {details['outcomes']:,} outcomes, "
        f"seeds {seeds}{without}; {account} ([the record](chaos.md))"
    )
