"""Histories from real git repositories, made for each test."""

from __future__ import annotations

import os
import subprocess
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from pointsman.models.agents.documentation_keeper.git_history import read_git
from pointsman.models.agents.documentation_keeper.history import FILES_MAX, Commit, HistoryError
from pointsman.models.agents.documentation_keeper.request import CodeChange
from pointsman.models.agents.documentation_keeper.signals import signals
from tests.support.histories import START, Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def read(repository: Repository, **options: int) -> list[Commit]:
    return list(read_git(repository.folder, **options))


def files(commit: Commit) -> list[tuple[str, int, int, str]]:
    return [(f.path, f.added, f.removed, f.status) for f in commit.request.files]


def test_commits_come_oldest_first_with_lines_and_status(repository: Repository) -> None:
    first = repository.commit(
        "One\n\nBody line.\n\nSigned-off-by: A <a@b.c>", {"a.py": "x\ny\n", "b.py": "z\n"}
    )
    second = repository.commit("Two", {"a.py": "x\n", "b.py": None})
    one, two = read(repository)
    assert (one.sha, two.sha) == (first, second)
    assert files(one) == [("a.py", 2, 0, "A"), ("b.py", 1, 0, "A")]
    assert files(two) == [("a.py", 0, 1, "M"), ("b.py", 0, 1, "D")]
    assert (one.request.body_lines, two.request.body_lines) == (1, 0)
    assert one.committed_at == one.request.authored_at == START
    assert one.repository == "project"
    assert one.author == two.author
    assert "@" not in one.author


def test_odd_paths_and_renames_are_read_whole(repository: Repository) -> None:
    odd = ["with space.py", "ünï/çode.py", 'quo"te.py', "tab\there.py", "new\nline.py", "-dash.py"]
    repository.commit("One", {path: f"{path}\n" * 9 for path in odd})
    repository.git("mv", "with space.py", "moved to.py")
    repository.commit("Two")
    one, two = read(repository)
    assert sorted(f.path for f in one.request.files) == sorted(odd)
    assert all(f.added >= 9 for f in one.request.files)
    (moved,) = two.request.files
    assert (moved.path, moved.previous, moved.status) == ("moved to.py", "with space.py", "R")


def test_paths_that_are_no_utf8_do_not_stop_the_reading(repository: Repository) -> None:
    Path(os.fsdecode(bytes(repository.folder) + b"/bad\xff.py")).write_text("x\n")
    repository.commit("One")
    assert files(read(repository)[0]) == [("bad\ufffd.py", 1, 0, "A")]


def test_binary_files_have_no_lines(repository: Repository) -> None:
    repository.commit("One", {"a.py": "x\n", "logo.png": b"\x00\x01\x02"})
    found = {f.path: f for f in read(repository)[0].request.files}
    assert found["logo.png"].binary
    assert found["logo.png"].added == 0


def test_truth_is_that_of_the_merge_with_which_a_commit_landed(repository: Repository) -> None:
    repository.commit("Start", {"a.py": "1\n"})
    repository.git("switch", "--quiet", "--create", "topic")
    code = repository.commit("Code", {"a.py": "2\n"})
    docs = repository.commit("Explain", {"docs/a.rst": "text\n"})
    repository.git("switch", "--quiet", "main")
    beside = repository.commit("Beside", {"b.py": "1\n"})
    merge = repository.merge("topic")
    found = {c.sha: c for c in read(repository)}
    assert set(found) >= {code, docs, beside}
    assert merge not in found
    assert found[code].land == found[docs].land == merge
    assert (found[code].truth, found[beside].truth) == ("docs_needed", "docs_not_needed")
    assert found[code].landed_at > found[code].committed_at
    assert found[beside].landed_at == found[beside].committed_at
    assert (found[code].in_domain, found[docs].in_domain) == (True, False)
    assert found[docs].request.files == []


def test_bots_and_commits_without_source_are_out_of_the_domain(repository: Repository) -> None:
    repository.commit("Source", {"a.py": "1\n"})
    repository.commit("Bump", {"a.py": "2\n"}, author="dependabot[bot] <1+dependabot[bot]@users.example.org>")
    repository.commit("Tests", {"tests/test_a.py": "1\n"})
    repository.commit("By Abbott", {"a.py": "3\n"}, author="Abbott <abbott@example.org>")
    assert [c.in_domain for c in read(repository)] == [True, False, False, True]


def test_reverts_are_found_by_sha(repository: Repository) -> None:
    bad = repository.commit("Add x", {"a.py": "1\n"})
    repository.commit("Other", {"b.py": "1\n"})
    repository.git("revert", "--no-edit", bad)
    assert [(s.sha, s.kind) for s in signals(read(repository)) if s.kind == "reverted"] == [(bad, "reverted")]


def test_a_commit_of_thousands_of_files_is_cut_and_says_so(repository: Repository) -> None:
    many = {f"src/f{i:05}.py": "x\n" for i in range(2500)}
    repository.commit("All", {**many, "zz/README.md": "x\n"})
    (commit,) = read(repository)
    assert len(commit.request.files) == FILES_MAX
    assert commit.files_total == 2501
    assert commit.truth == "docs_needed"
    assert msgspec.json.decode(msgspec.json.encode(commit.request), type=CodeChange) == commit.request


def test_a_repository_without_commits_has_an_empty_history(repository: Repository) -> None:
    assert read(repository) == []


def test_empty_commits_and_messages_are_no_trouble(repository: Repository) -> None:
    repository.commit("Only words")
    repository.git("commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", "")
    assert [(c.request.subject, c.request.files, c.in_domain) for c in read(repository)] == [
        ("Only words", [], False),
        ("", [], False),
    ]


def test_a_shallow_clone_has_what_is_there(repository: Repository, tmp_path: Path) -> None:
    for n in range(5):
        repository.commit(f"Change {n}", {"a.py": f"{n}\n"})
    clone = tmp_path / "shallow"
    command = ["git", "clone", "--quiet", "--depth=2", repository.folder.as_uri(), str(clone)]
    subprocess.run(command, check=True, capture_output=True)
    assert [c.request.subject for c in read_git(clone)] == ["Change 3", "Change 4"]


def test_newest_limits_from_the_new_end_and_keeps_the_order(repository: Repository) -> None:
    for n in range(5):
        repository.commit(f"Change {n}", {"a.py": f"{n}\n"})
    assert [c.request.subject for c in read(repository, newest=2)] == ["Change 3", "Change 4"]


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="not a git repository"):
        list(read_git(tmp_path))


def test_git_failing_half_way_is_an_error_not_a_short_history(repository: Repository) -> None:
    repository.commit("One", {"a.py": "1\n"})
    repository.commit("Two", {"a.py": "2\n" * 50})
    blob = repository.git("rev-parse", "HEAD:a.py")
    (repository.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(HistoryError, match="failed: "):
        read(repository)


def test_a_commit_without_times_is_read(repository: Repository) -> None:
    repository.commit("One", {"a.py": "1\n"})
    tree = repository.git("rev-parse", "HEAD^{tree}")
    odd = repository.folder / "odd"
    odd.write_bytes(f"tree {tree}\nauthor A <a@b.c>\ncommitter A <a@b.c>\n\nTimeless\n".encode())
    sha = repository.git("hash-object", "-t", "commit", "-w", "--literally", str(odd))
    repository.git("update-ref", "refs/heads/main", sha)
    (only,) = read(repository)
    assert (only.sha, only.committed_at.year) == (sha, 1970)


def test_a_folder_whose_name_is_no_text_gives_its_repository_one(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    repository = Repository(folder)
    repository.commit("One", {"a.py": "1\n"})
    (only,) = read(repository)
    assert only.repository == "\ufffd"
    msgspec.json.encode(only)


def test_reading_may_stop_early(repository: Repository) -> None:
    for n in range(30):
        repository.commit(f"Change {n}", {"a.py": f"{n}\n"})
    history = read_git(repository.folder)
    assert len(list(islice(history, 3))) == 3
    history.close()  # type: ignore[attr-defined]


def test_settings_and_variables_of_the_user_change_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.commit("One", {"a.py": "1\n", "b c.py": "1\n" * 20})
    repository.git("mv", "b c.py", "d.py")
    repository.commit("Two", {"a.py": "2\n"})
    expected = read(repository)
    for key, value in [("log.showSignature", "true"), ("color.ui", "always"), ("diff.renames", "false"),
                       ("log.showRoot", "false"), ("diff.noprefix", "true"), ("log.decorate", "full"),
                       ("format.pretty", "oneline"), ("diff.external", "false"), ("core.quotePath", "true")]:  # fmt: skip
        repository.git("config", key, value)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert read(repository) == expected
