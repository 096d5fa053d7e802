"""Both arms on repositories that were read from git: each asked once, with what is known at the time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pointsman.models.agents.documentation_keeper import AGENT, unseen
from pointsman.models.agents.documentation_keeper.history import HistoryError
from tests.support.histories import Repository

assert AGENT.model is not None
MODEL: Path = AGENT.model


def grown(folder: Path, commits: int = 24) -> Repository:
    """Every second commit adds an option with its documentation, the others fix something inside."""
    repository = Repository(folder)
    for number in range(commits):
        if number % 2:
            files: dict[str, str | bytes | None] = {
                "src/cli.py": f"{number}\n" * 40,
                "docs/cli.rst": f"{number}\n",
            }
            repository.commit(f"Add option {number}", files)
        else:
            repository.commit(f"Fix crash {number}", {"src/_inner.py": f"{number}\n"})
    return repository


def test_both_arms_are_judged_on_every_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = {name: grown(tmp_path / name) for name in ("one", "two")}
    unseen.main(str(MODEL), *(f"example/{name}={each.folder}" for name, each in made.items()))
    found = msgspec.json.decode(capsys.readouterr().out, type=unseen.Unseen)
    assert [(each.name, each.decisions, each.needed) for each in found.repositories] == [
        ("example/one", 24, 12),
        ("example/two", 24, 12),
    ]
    assert [each.head for each in found.repositories] == [
        each.git("rev-parse", "HEAD") for each in made.values()
    ]
    assert (found.same.groups, found.same.clusters) == (2, 48)
    assert min(found.same.first.value, found.same.second.value) > 0.7
    assert found.first.second == found.same.second


def test_a_repository_without_source_says_so(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "app")
    repository.commit("Words", {"README.md": "x\n"})
    with pytest.raises(HistoryError, match="touches source"):
        unseen.judge(MODEL, {"example/app": repository.folder})
