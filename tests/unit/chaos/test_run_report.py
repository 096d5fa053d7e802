"""What a failed run leaves in its test's report: every finding, and the end of every log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.chaos.plan import Plan
from tests.chaos.run import LAST_LINES, Result, Run


def test_a_report_holds_all_findings_and_the_end_of_each_members_logs(tmp_path: Path) -> None:
    for name in ("worker-1-1", "worker-1-2", "sink-1"):
        (tmp_path / f"{name}.log").write_text("".join(f"{name} line {n}.\n" for n in range(100)))
    members = {
        "worker-1": SimpleNamespace(logs=[tmp_path / "worker-1-1.log", tmp_path / "worker-1-2.log"]),
        "sink": SimpleNamespace(logs=[tmp_path / "sink-1.log", tmp_path / "sink-2.log"]),
        "joiner": SimpleNamespace(logs=[]),
    }
    run = Run.__new__(Run)
    run.stage = SimpleNamespace(members=members)  # type: ignore[assignment]
    plan = Plan(
        name="p", seed=1, layout="apart", partitions=1, rate=1, seconds=1.0, compression="none", faults=()
    )
    run.result = Result(plan, findings=["lost: one", "doubled: two"], left_out={"freeze": "no root"})
    lines = run.report().splitlines()
    assert {"lost: one", "doubled: two", "left out: freeze: no root"} <= set(lines)
    for name in ("worker-1-1", "worker-1-2", "sink-1"):
        said = [line for line in lines if line.startswith(f"{name} line")]
        assert said == [f"{name} line {n}." for n in range(100 - LAST_LINES, 100)]
    assert any("sink-2.log" in line for line in lines), "a process that had no time to write anything"
