"""`pointsman demo` from its command line to its end: real processes, a small real history, exact counts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.streams.local import alive
from tests.support.histories import Repository, learnable, write_lines
from tests.support.processes import children, listener

DEMO_S = 120
STILL_S = 6
"""Long enough to decide all 3,000, were nobody to wait for the sink."""
COMMAND = [sys.executable, "-P", "-m", "pointsman.streams.cli"]


@pytest.fixture
def history(open_folder: Path) -> Path:
    """A repository with a documented option, a fix, a revert, a commit outside the domain; a path with spaces."""
    repository = Repository(open_folder / "a small repository")
    for number in range(12):
        files: dict[str, str | bytes | None] = {
            f"src/app/part{number % 4}.py": f"x = {number}\n" * (number + 3)
        }
        if number % 3 == 0:
            files["docs/options.md"] = f"Option {number}\n"
        repository.commit(f"Add option --part{number}" if number % 2 else f"Fix part {number}", files)
    repository.commit("Only documentation", {"README.md": "Read me\n"})
    repository.git("revert", "--no-edit", "HEAD~1")
    return repository.folder


def run(folder: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "POINTSMAN_DATA_DIR": str(folder / "some data")}
    return subprocess.run(
        [*COMMAND, *words],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=DEMO_S,
        check=False,
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_small_history_goes_through_whole_and_can_be_explained_afterwards(
    history: Path, open_folder: Path
) -> None:
    found = result(run(open_folder, "demo", "--git", str(history), "--json"))
    assert found["requests"] == found["outcomes"] == found["rows"] == found["labelled"] == 13
    assert found["ledger"]["requests"] == found["ledger"]["outcomes"] + found["ledger"]["duplicates"]
    assert found["ledger"]["difference"] == 0
    assert found["differences"] == []
    assert found["commits"] == 14
    assert found["signals"]["reverted"] == 1
    arms = {side["arm"]: side["decisions"] for side in found["sides"] if side["arm"]}
    assert arms == {"control": 6, "candidate": 7}
    assert found["twins"]["n"] == 13
    assert set(found["memory"]) == {"rules", "model"}
    assert any("only 13 decisions have a known truth" in note for note in found["notes"])

    page = open_folder / "page.html"
    drawn = run(open_folder, "dashboard", "page", "--last", "30m", "--out", str(page))
    assert drawn.returncode == 0, drawn.stderr
    assert (
        page.read_text(encoding="utf-8").count("<svg") == 7
    )  # all but the fallbacks, of which there are none

    explained = run(open_folder, "explain", found["example"], "--json")
    assert explained.returncode == 0, explained.stderr
    told = json.loads(explained.stdout)
    assert told["decision"]["decision_id"] == found["example"]
    assert told["recomputed"]["identical"] is True
    assert told["recomputed"]["checks"] == {
        "features": "they depend on what was remembered of the unit then: taken as stored",
        "rules": "identical",
        "model": "identical",
    }
    assert any(event["kind"] == "label" for event in told["decision"]["feedback"])
    for_people = run(open_folder, "explain", found["example"])
    assert "Computed again: identical" in for_people.stdout
    unknown = run(open_folder, "explain", "nosuch")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no decision nosuch" in unknown.stderr


def test_a_sink_that_stands_still_loses_nothing_though_the_broker_forgets(open_folder: Path) -> None:
    """3,000 requests of 10 KB: outcomes of more than a partition's 5 MiB, which nobody reads for a while."""
    lines = learnable(repositories=8, commits=375)
    for number, each in enumerate(lines):
        each["files"] += [
            {"p": f"src/deep/folder/number{i}/module{number % 7}.py", "a": i, "r": i} for i in range(150)
        ]
    file = write_lines(open_folder / "commits.jsonl.gz", lines)
    environment = {**os.environ, "POINTSMAN_DATA_DIR": str(open_folder / "data")}
    demo = subprocess.Popen(
        [*COMMAND, "demo", "--commits", str(file), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith("embedded Kafka"):  # all is ready: the replay begins
                break
        addresses = json.loads((open_folder / "data" / "run" / "pointsman.json").read_text())["ops"]
        sink = listener(children(demo.pid), addresses["sink"])
        os.kill(sink, signal.SIGSTOP)
        time.sleep(STILL_S)
        os.kill(sink, signal.SIGCONT)
        out, errors = demo.communicate(timeout=DEMO_S)
    finally:
        demo.kill()
    found = result(subprocess.CompletedProcess(demo.args, demo.returncode, out, errors))
    assert found["requests"] == found["outcomes"] == found["rows"] == found["labelled"] == 3_000
    assert found["differences"] == []


def test_in_a_folder_that_is_no_repository_it_says_what_to_do(open_folder: Path) -> None:
    done = run(open_folder, "demo", cwd=open_folder)
    assert done.returncode == 2
    assert "is no git repository; choose another with --git PATH or --commits FILE" in done.stderr
    assert done.stderr.count("\n") == 1


def until(met: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_kept_it_runs_until_it_is_told_to_stop_and_leaves_nothing_behind(
    history: Path, open_folder: Path
) -> None:
    environment = {**os.environ, "POINTSMAN_DATA_DIR": str(open_folder / "data"), "COLUMNS": "200"}
    out = open_folder / "out"
    with out.open("w") as file:
        kept = subprocess.Popen(
            [*COMMAND, "demo", "--git", str(history), "--keep"],
            env=environment, stdout=file, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    try:
        until(
            lambda: kept.poll() is not None or "pointsman runs" in out.read_text(), "the demo did not come up"
        )
        seen: dict[str, Any] = {}

        def all_counted() -> bool:
            done = subprocess.run(
                [*COMMAND, "status", "--json"], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            seen.update(json.loads(done.stdout))
            arms = seen["live"].get("documentation-keeper", {}).values()
            return sum(figures["last_day"]["decisions"] for figures in arms if figures["last_day"]) == 13

        until(all_counted, "the live figures do not count 13 decisions", 30)
        assert seen["flags"] == {"ml-agent-rollout": 100.0}
        assert set(seen["processes"]) == {"worker", "sink"}
        refused = subprocess.run(
            [*COMMAND, "up"], env=environment, capture_output=True, text=True, check=False, timeout=DEMO_S
        )
        assert refused.returncode == 2
        assert "runs already in group pointsman" in refused.stderr
    finally:
        below = children(kept.pid)
        kept.send_signal(signal.SIGTERM)
        _, errors = kept.communicate(timeout=60)
    assert kept.returncode == 0, errors
    assert len(below) >= 4
    until(lambda: not any(alive(pid) for pid in below), "processes are left behind", 20)
    assert not (open_folder / "data" / "run" / "pointsman.json").exists()
