"""Histories from JSON Lines, and the signals that a history shows later."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pointsman.models.agents.documentation_keeper.history import FILES_MAX, Commit, HistoryError, read_commits
from pointsman.models.agents.documentation_keeper.paths import counts_as_documentation
from pointsman.models.agents.documentation_keeper.request import CodeChange
from pointsman.models.agents.documentation_keeper.signals import WINDOW, Signal, signals
from tests.support.histories import START, line, write_lines


def read(tmp_path: Path, *lines: dict[str, Any]) -> list[Commit]:
    return list(read_commits(write_lines(tmp_path / "commits.jsonl", list(lines))))


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz"])
def test_plain_and_compressed_files_are_read_alike(tmp_path: Path, name: str) -> None:
    commits = list(read_commits(write_lines(tmp_path / name, [line(1), line(2, docs=True)])))
    assert [c.truth for c in commits] == ["docs_not_needed", "docs_needed"]
    assert commits[0].committed_at == START + timedelta(hours=1)


def test_the_request_does_not_hold_the_truth(tmp_path: Path) -> None:
    files = [
        {"p": "docs/a.rst", "a": 1, "r": 0},
        {"p": "src/a.py", "a": 3, "r": 1},
        {"p": "README.md", "a": 1, "r": 1},
        {"p": "src/moved.py", "o": "docs/moved.py", "s": "R", "a": 0, "r": 0},
    ]
    (commit,) = read(
        tmp_path, line(1, docs=True, subject="Update docs and README for a", files=files, n_files=4)
    )
    assert [file.path for file in commit.request.files] == ["src/a.py"]
    assert commit.request.subject == "Update _ and _ for a"
    assert commit.files_total == 4


def test_docstring_lines_belong_to_the_truth_not_to_the_request(tmp_path: Path) -> None:
    files = [
        {"p": "src/a.py", "a": 10, "r": 4, "d": [3, 1, 0, 0]},
        {"p": "src/only_docstrings.py", "a": 5, "r": 2, "d": [5, 2, 1, 0]},
        {"p": "logo.png", "a": -1, "r": -1},
    ]
    (commit,) = read(tmp_path, line(1, files=files))
    found = [(f.path, f.added, f.removed, f.binary) for f in commit.request.files]
    assert found == [("src/a.py", 7, 3, False), ("logo.png", 0, 0, True)]


def test_truth_is_the_landing_units_and_known_when_it_landed(tmp_path: Path) -> None:
    labels = {"dom": 1, "same": [], "land": ["docstring", "readme"]}
    commits = read(tmp_path, line(1, land="00000000ff", y=labels), line(9, land="00000000ff", y=labels))
    assert {c.truth for c in commits} == {"docs_needed"}
    assert {c.landed_at for c in commits} == {START + timedelta(hours=9)}


@pytest.mark.parametrize("kind", ["changelog", "docstring", "docstring_new"])
def test_changelogs_and_docstrings_are_not_the_target(tmp_path: Path, kind: str) -> None:
    (commit,) = read(tmp_path, line(1, y={"dom": 1, "same": [kind], "land": [kind]}))
    assert commit.truth == "docs_not_needed"


def test_requests_fit_the_contract_however_large_the_commit(tmp_path: Path) -> None:
    files = [{"p": f"src/f{i}.py", "a": 10**9, "r": 0} for i in range(FILES_MAX + 50)]
    (commit,) = read(tmp_path, line(1, files=files, n_files=5000, subject="w" * 900, body_lines=10**6))
    again = msgspec.json.decode(msgspec.json.encode(commit.request), type=CodeChange)
    assert again == commit.request
    assert len(again.files) == FILES_MAX
    assert commit.files_total == 5000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"repo": "x"}\n', "line 1: .*missing required field"),
        (b"\nnot json\n", "line 2: "),
        (b"\x1f\x8bbroken", "line 0: "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(content)
    with pytest.raises(HistoryError, match=says):
        list(read_commits(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"none\.jsonl: cannot be read"):
        list(read_commits(tmp_path / "none.jsonl"))


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    assert read(tmp_path) == []


def shown(commits: list[Commit]) -> list[tuple[str, str, timedelta]]:
    return [(s.sha.lstrip("0"), s.kind, s.known_at - START) for s in signals(commits)]


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


def test_a_commit_left_alone_is_accepted_after_three_days(tmp_path: Path) -> None:
    commits = read(tmp_path, line(1), line(200, author="b0b0b0b0"))
    assert shown(commits) == [("1", "accepted", hours(1) + WINDOW)]


def test_nothing_is_said_while_the_history_is_too_short(tmp_path: Path) -> None:
    assert shown(read(tmp_path, line(1), line(60, author="b0b0b0b0"))) == []


def test_the_same_author_at_the_same_file_within_three_days_is_an_edit(tmp_path: Path) -> None:
    commits = read(tmp_path, line(1), line(50), line(500, author="b0b0b0b0"))
    assert shown(commits) == [("1", "edited", hours(50)), ("32", "accepted", hours(50) + WINDOW)]


@pytest.mark.parametrize(
    "second",
    [
        {"author": "b0b0b0b0"},
        {"files": [{"p": "src/other.py", "a": 1, "r": 0}]},
        {"files": [{"p": "docs/core.rst", "a": 1, "r": 0}]},
        {"land": "0000000001"},
    ],
    ids=["another author", "another file", "documentation", "the same pull request"],
)
def test_what_is_no_edit(tmp_path: Path, second: dict[str, Any]) -> None:
    commits = read(tmp_path, line(1), line(50, **second), line(500, author="c0c0c0c0"))
    assert ("1", "accepted", hours(1) + WINDOW) in shown(commits)


def test_an_edit_after_three_days_is_none(tmp_path: Path) -> None:
    commits = read(tmp_path, line(1), line(1 + 73), line(500, author="b0b0b0b0"))
    assert shown(commits)[0] == ("1", "accepted", hours(1) + WINDOW)


def test_a_revert_is_found_by_its_subject_and_may_follow_acceptance(tmp_path: Path) -> None:
    commits = read(
        tmp_path,
        line(1, subject="Add docs for x"),
        line(200, subject='Revert "Add docs for x" (#12)', author="b0b0b0b0"),
    )
    assert shown(commits) == [("1", "accepted", hours(1) + WINDOW), ("1", "reverted", hours(200))]


def test_a_reverted_commit_is_not_accepted(tmp_path: Path) -> None:
    commits = read(
        tmp_path,
        line(1, subject="Add x"),
        line(5, subject='Revert "Add x"', author="b0b0b0b0"),
        line(500, author="c0c0c0c0"),
    )
    assert [s for s in shown(commits) if s[0] == "1"] == [("1", "reverted", hours(5))]


def test_a_revert_of_something_unknown_is_no_signal(tmp_path: Path) -> None:
    assert shown(read(tmp_path, line(1), line(2, subject='Revert "Unknown"', author="b0b0b0b0"))) == []


def test_signals_come_in_time_order_even_if_clocks_run_backwards(tmp_path: Path) -> None:
    numbers = [1, 30, 10, 80, 60, 200, 150, 400, 390]
    found = [s.known_at for s in signals(read(tmp_path, *[line(n) for n in numbers]))]
    assert found == sorted(found)
    assert found


def test_repositories_do_not_mix(tmp_path: Path) -> None:
    commits = read(tmp_path, line(1), line(2, repo="example/two"), line(500, repo="example/two", author="b"))
    found: list[Signal] = list(signals(commits))
    assert {(s.sha, s.kind) for s in found} == {("0000000002", "accepted")}


def test_memory_is_given_back(tmp_path: Path) -> None:
    from pointsman.models.agents.documentation_keeper.signals import _Watch

    watch = _Watch()
    for commit in read(tmp_path, *[line(100 * n, author=f"{n:08x}") for n in range(50)]):
        list(watch.see(commit))
    assert len(watch._touched) == 1
    assert len(watch._open) == 1


def test_no_documentation_path_is_in_any_request(tmp_path: Path) -> None:
    for commit in read(tmp_path, *[line(n, docs=bool(n % 2)) for n in range(20)]):
        assert not any(counts_as_documentation(file.path) for file in commit.request.files)
