"""The order of requests and labels: as soon as a label is known and never before, and the same rows in any batches."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.agents.documentation_keeper.git_history import read_git
from pointsman.models.agents.documentation_keeper.history import Commit, read_commits
from pointsman.models.agents.documentation_keeper.landings import decision_id, events, known
from pointsman.models.agents.documentation_keeper.measure import NEEDED, NOT_NEEDED
from pointsman.models.replay import Asked, replay
from tests.support.histories import Repository, line, write_lines

PATHS = ["src/a.py", "src/b.py", "src/in/c.py", "src/in/deep/d.py", "lib/e.py"]
COUNT = 150


def made(number: int, land: int, *, documents: bool, needed: bool, domain: bool = True) -> dict[str, Any]:
    labels = {"dom": int(domain), "same": ["docs"] * documents, "land": ["docs"] * needed}
    files = [{"p": PATHS[number % 5], "a": 3, "r": 1}]
    return line(number, land=f"{land:010x}", files=files, author=f"a{number % 4}", y=labels)


def history(tmp_path: Path, seed: int) -> list[Commit]:
    """Landings that lie in each other; a tenth of the commits documents, a fourth is outside of the domain."""
    random = Random(seed)
    open_: list[int] = []
    lands = []
    for number in range(COUNT):
        if not open_ or (len(open_) < 8 and random.random() < 0.5):
            open_.append(number)
        lands.append(random.choice(open_))
        if random.random() < 0.3:
            open_.remove(lands[-1])
    documents = [random.random() < 0.1 for _ in lands]
    documented = {land for land, own in zip(lands, documents, strict=True) if own}
    lines = [
        made(n, land, documents=documents[n], needed=land in documented, domain=random.random() < 0.75)
        for n, land in enumerate(lands)
    ]
    return list(read_commits(write_lines(tmp_path / f"{seed}.jsonl", lines)))


def told(commits: list[Commit], *, late: bool = False) -> list[list[int]]:
    return list(known(commits, late=late))


def test_documentation_is_known_with_the_first_commit_that_has_it_and_from_then_on(tmp_path: Path) -> None:
    lines = [
        made(0, 9, documents=False, needed=True),
        made(1, 1, documents=False, needed=False),
        made(2, 9, documents=True, needed=True, domain=False),
        made(3, 9, documents=False, needed=True),
        made(4, 9, documents=True, needed=True),
    ]
    commits = list(read_commits(write_lines(tmp_path / "c.jsonl", lines)))
    assert told(commits) == [[], [1], [0], [3], [4]]
    assert told(commits, late=True) == [[], [1], [], [], [0, 3, 4]]


def test_that_there_is_none_is_known_with_the_last_commit(tmp_path: Path) -> None:
    lines = [made(n, 0, documents=False, needed=False, domain=n != 2) for n in range(3)]
    assert told(list(read_commits(write_lines(tmp_path / "c.jsonl", lines)))) == [[], [], [0, 1]]


def test_documentation_that_no_commit_here_has_is_known_at_the_end(tmp_path: Path) -> None:
    """As where the history was cut within a landing."""
    lines = [made(n, 0, documents=False, needed=True) for n in range(3)]
    assert told(list(read_commits(write_lines(tmp_path / "c.jsonl", lines)))) == [[], [], [0, 1, 2]]


def test_landings_of_two_repositories_with_one_name_are_two(tmp_path: Path) -> None:
    lines = [made(n, 0, documents=n == 1, needed=n == 1) | {"repo": f"example/{n}"} for n in range(2)]
    assert told(list(read_commits(write_lines(tmp_path / "c.jsonl", lines)))) == [[0], [1]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("late", [False, True])
def test_every_request_is_labelled_once_and_after_it_was_asked(
    tmp_path: Path, seed: int, *, late: bool
) -> None:
    commits = history(tmp_path, seed)
    truth = {decision_id(c, place): c.truth for place, c in enumerate(commits) if c.in_domain}
    waiting: set[str] = set()
    labels: dict[str, str] = {}
    for event in events(commits, late=late):
        if isinstance(event, Asked):
            waiting.add(event.decision_id)
        else:
            waiting.remove(event.decision_id)
            labels[event.decision_id] = event.label
    assert (labels, waiting) == (truth, set())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cut", [40, 75, 100])
def test_what_comes_later_changes_no_row_before_it(tmp_path: Path, seed: int, cut: int) -> None:
    """Another future: other requests, and the other label for every landing of which nothing could be known yet."""
    commits = history(tmp_path, seed)
    last = {commit.land: place for place, commit in enumerate(commits)}
    sure = {c.land for c in commits[:cut] if c.documents or last[c.land] < cut}
    others = []
    for place, commit in enumerate(commits):
        changed = commit
        if commit.land not in sure:
            other = NOT_NEEDED if commit.truth == NEEDED else NEEDED
            changed = msgspec.structs.replace(changed, truth=other)
        if place >= cut:
            later = msgspec.structs.replace(commit.request, subject="Add option", author="else")
            changed = msgspec.structs.replace(changed, documents=changed.truth == NEEDED, request=later)
        others.append(changed)
    assert any(commit.land not in sure for commit in commits[:cut])
    before = sum(commit.in_domain for commit in commits[:cut])
    rows = [row for _, row in replay(AGENT, events(commits))]
    changed_rows = [row for _, row in replay(AGENT, events(others))]
    assert changed_rows[:before] == rows[:before]
    assert changed_rows != rows


def test_a_label_that_is_known_early_is_seen_by_the_next_commit_of_its_landing(tmp_path: Path) -> None:
    lines = [made(n, 0, documents=n == 0, needed=True) | {"author": "ann"} for n in range(2)]
    commits = list(read_commits(write_lines(tmp_path / "c.jsonl", lines)))
    place = AGENT.feature_names.index("author_recent")
    early = [row[place] for _, row in replay(AGENT, events(commits))]
    late = [row[place] for _, row in replay(AGENT, events(commits, late=True))]
    assert early[1] > early[0] == late[0] == late[1] == 1.0


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_replay_gives_the_same_rows_in_any_batches(tmp_path: Path, batch: int) -> None:
    commits = history(tmp_path, 1)
    assert list(replay(AGENT, events(commits), batch=batch)) == list(replay(AGENT, events(commits)))


def test_a_git_history_says_which_commits_document(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "app")
    repository.commit("Start", {"a.py": "1\n"})
    repository.git("switch", "--quiet", "--create", "topic")
    first = repository.commit("Code", {"a.py": "2\n"})
    docs = repository.commit("Explain", {"docs/a.rst": "text\n"})
    last = repository.commit("More code", {"a.py": "3\n"})
    repository.git("switch", "--quiet", "main")
    repository.merge("topic")
    commits = list(read_git(repository.folder))
    assert [commit.documents for commit in commits] == [False, False, True, False]
    place = {commit.sha: number for number, commit in enumerate(commits)}
    found = told(commits)
    assert found[place[docs]] == [place[first]]
    assert found[place[last]] == [place[last]]
