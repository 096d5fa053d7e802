"""The line of what was lost or doubled: newest runs, all their faults, and a finding of the account shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import safety


def run(day: int, findings: list[str] | None = None, faults: int = 20) -> dict[str, Any]:
    return {
        "began": f"2026-01-{day:02}T00:00:00+00:00",
        "findings": findings or [],
        "counts": {"faults": faults, "outcomes": 1_000},
        "plan": {"seed": day},
    }


def record(tmp_path: Path, *runs: dict[str, Any]) -> Path:
    path = tmp_path / "chaos.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in runs))
    return path


def test_the_newest_runs_count_until_there_are_200_faults(tmp_path: Path) -> None:
    runs = [run(day) for day in (3, 1, 2, *range(4, 15))]
    found = safety.result(record(tmp_path, *runs))
    assert found is not None
    assert found["details"] == {
        "faults": 200,
        "runs": 10,
        "outcomes": 10_000,
        "findings": 0,
        "seeds": list(range(5, 15)),
        "stopped": [],
    }
    assert (found["rows"][0]["median"], found["rows"][0]["greatest"]) == (0, 0)
    assert "200 faults" in safety.says(found["details"])
    assert "every record accounted for" in safety.says(found["details"])


def test_a_loss_shows_and_an_unexplained_log_line_is_not_one(tmp_path: Path) -> None:
    lost = ["lost: a valid request without an outcome: 1 (x)", "in a log, 1 times: asyncio: something"]
    runs = [run(day, lost if day == 9 else None) for day in range(1, 13)]
    found = safety.result(record(tmp_path, *runs))
    assert found is not None
    assert found["rows"][0]["median"] == 1, "one in ten runs is one too many"
    assert "1 finding in the account" in safety.says(found["details"])


def test_a_run_whose_load_stopped_is_no_measurement_and_is_named(tmp_path: Path) -> None:
    stopped = ["the broker has not taken 7 records 90 s after all faults"]
    runs = [run(day, stopped if day in (1, 9) else None) for day in range(1, 16)]
    runs[10]["counts"]["producers_replaced"] = 1
    found = safety.result(record(tmp_path, *runs))
    assert found is not None
    details = found["details"]
    assert (details["seeds"], details["stopped"]) == ([4, 5, 6, 7, 8, 10, 12, 13, 14, 15], [9, 11])
    assert "whose load stopped: 9, 11;" in safety.says(details)
    assert (details["findings"], found["rows"][0]["median"]) == (0, 0)


def test_what_a_run_lost_whose_load_stopped_was_lost(tmp_path: Path) -> None:
    both = ["the broker has not taken 7 records", "lost: a valid request without an outcome: 1 (x)"]
    found = safety.result(record(tmp_path, *(run(day, both if day == 9 else None) for day in range(1, 14))))
    assert found is not None
    assert found["rows"][0]["median"] == 1


def test_too_few_faults_are_no_measurement(tmp_path: Path) -> None:
    assert safety.result(record(tmp_path, run(1))) is None
    assert safety.result(tmp_path / "none.jsonl") is None
