"""Plans come from their seed, hit nobody twice at once, and can be kept; logs and samples are judged; pages written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import plan, record, watch
from tests.chaos.plan import KINDS, WORKERS, Plan, draw
from tests.chaos.run import Result

seeds = st.integers(0, 10**6)


@given(seeds)
def test_a_seed_always_gives_the_same_plan(seed: int) -> None:
    assert draw(seed, faults=12, seconds=90, rate=50) == draw(seed, faults=12, seconds=90, rate=50)


@given(seeds, st.integers(1, 60), st.floats(30, 600))
def test_faults_of_one_target_follow_each_other(seed: int, count: int, seconds: float) -> None:
    drawn = draw(seed, faults=count, seconds=seconds, rate=50)
    assert len(drawn.faults) == count
    busy: dict[str, float] = {}
    for fault in drawn.faults:
        low, high = KINDS[fault.kind].seconds
        assert low - 0.1 <= fault.for_s <= high + 0.1
        for target in WORKERS if fault.target == "all" else (fault.target,):
            assert busy.get(target, 0.0) <= fault.at_s
            busy[target] = fault.at_s + fault.for_s


@given(seeds)
def test_every_kind_comes_before_long_and_what_cannot_be_done_never(seed: int) -> None:
    drawn = draw(seed, faults=3 * len(KINDS), seconds=3_000, rate=50, without=["database_full"])
    kinds = {fault.kind for fault in drawn.faults}
    without_sink = {kind for kind in KINDS if not kind.startswith("sink_")}
    wanted = set(KINDS) if drawn.layout == "apart" else without_sink
    assert kinds == wanted - {"database_full"}


def test_a_plan_is_the_same_after_its_file(tmp_path: Path) -> None:
    drawn = draw(7, faults=9, seconds=60, rate=50)
    (tmp_path / "plan.json").write_text(drawn.to_json())
    assert plan.load(tmp_path / "plan.json") == drawn


# -- logs and samples -------------------------------------------------------------------------------


def logged(path: Path, *events: dict[str, str] | str) -> Path:
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in events) + "\n")
    return path


def test_an_error_that_no_fault_explains_is_found_and_one_that_is_explained_is_not(tmp_path: Path) -> None:
    full = {
        "level": "error",
        "logger": "pointsman.streams.partition",
        "event": "partition begins anew",
        "error": "StoreUnavailable: the database refuses for now (53100)",
    }
    log = logged(tmp_path / "log", {"level": "info", "logger": "x", "event": "worker runs"}, full)
    assert watch.unexplained([log], ["database_full"]) == {}
    (found,) = watch.unexplained([log], ["worker_kill", "model_nan"])
    assert "StoreUnavailable" in found
    bug = {"level": "error", "logger": "x", "event": "it broke", "exception": "Traceback:\n KeyError: 7"}
    (found,) = watch.unexplained([logged(tmp_path / "log", bug)], list(KINDS))
    assert found.endswith("KeyError: 7")
    assert watch.unexplained([logged(tmp_path / "log", "Segmentation fault")], list(KINDS)) != {}


def samples(*sizes: float, pid: int = 1) -> list[watch.Sample]:
    return [watch.Sample(at_s=10.0 * n, pid=pid, rss_mb=size, fds=9) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ([100.0] * 30, ""),
        ([60, 90, *[100.0] * 28], ""),
        ([100.0 + 5 * n for n in range(30)], "grew by"),
        ([100.0] * 29 + [400.0], "took 400 MiB"),
    ],
)
def test_memory_that_grows_or_is_too_much_is_found(sizes: list[float], named: str) -> None:
    looked = watch.Watch()
    looked.samples["worker-1"] = samples(*sizes)
    findings = " ".join(looked.findings())
    assert (named in findings) if named else not findings


# -- the record -------------------------------------------------------------------------------------


def result(seed: int, findings: list[str]) -> Result:
    drawn = draw(seed, faults=4, seconds=60, rate=50)
    return Result(
        Plan(**vars(drawn)),
        findings=findings,
        done=["model_nan", "model_nan", "poison"],
        counts={"faults": 3, "sent": 1_000, "outcomes": 900, "dead_letters": 7, "duplicates": 3},
        figures={"rss_max_mb": 120},
        began="2026-11-21T16:00:00+00:00",
    )


def test_runs_are_added_to_the_record_and_the_table_is_made_of_all(tmp_path: Path) -> None:
    page, records = tmp_path / "chaos.md", tmp_path / "chaos.jsonl"
    page.write_text(f"Before.\n{record.BEGIN}\nold\n{record.END}\nAfter.\n")
    record.add(result(1, []).to_dict(), page, records)
    record.add(
        result(2, ["lost: 1", "doubled: 2", "in a log, 1 times: at /a/b-c/d.py:3"]).to_dict(), page, records
    )
    runs = record.read(records)
    assert [run["clean"] for run in runs] == [True, False]
    assert runs[1]["findings"][2] == "in a log, 1 times: at …/d.py:3"
    assert runs[0]["kinds"] == {"model_nan": 2, "poison": 1}
    text = page.read_text()
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "old" not in text
    assert (
        "| 2 findings, 1 unexplained kind of log lines |" in text
        and "2 runs with 6 faults. In 1 of them, with 3 faults and 900 outcomes" in text
    )


def test_the_page_shows_the_record_as_it_is_and_names_every_kind() -> None:
    text = record.PAGE.read_text()
    assert record.with_table(text, record.read()) == text
    assert all(f"| `{name}` | {kind.text} |" in text for name, kind in KINDS.items())
