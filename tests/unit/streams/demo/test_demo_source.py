"""The demo's input: what is chosen, and what it says where there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pointsman.streams.demo.source import NoInput, choose
from tests.support.histories import Repository, line, write_lines


def test_the_repository_that_one_stands_in_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path / "a project")
    repository.commit("First", {"src/deep/a.py": "1\n"})
    monkeypatch.chdir(repository.folder / "src" / "deep")
    source = choose(None, None)
    assert (source.name, source.git) == ("a project", repository.folder)
    assert [commit.request.subject for commit in source.read(0)] == ["First"]


def test_a_file_is_known_by_its_hash(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "commits.jsonl.gz", [line(1)])
    source = choose(None, file)
    assert source.sha256() == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(list(source.read(0))) == 1


def test_no_repository_says_how_to_choose_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(
        NoInput, match=r"current directory .* is no git repository; choose another with --git PATH"
    ):
        choose(None, None)
    with pytest.raises(NoInput, match="nosuch: no such file"):
        choose(None, tmp_path / "nosuch")
    with pytest.raises(NoInput, match="choose one"):
        choose(tmp_path, tmp_path / "nosuch")


def test_a_repository_without_commits_says_so(tmp_path: Path) -> None:
    source = choose(Repository(tmp_path / "empty").folder, None)
    with pytest.raises(NoInput, match="has no commits yet"):
        source.read(0)


def test_git_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoInput, match="git cannot be run"):
        choose(tmp_path, None)
