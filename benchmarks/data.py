"""Requests for measurements: real commits, as documentation-keeper is asked about them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import msgspec

from pointsman.models.agents.documentation_keeper import AGENT, git_history, history


def requests(count: int, commits: Path | None) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of ``count`` requests; where the history has fewer commits it is repeated under new ids."""
    return _numbered(
        count, [msgspec.json.encode(each.request) for each in changes(commits, min(count, 50_000))]
    )


def changes(commits: Path | None, read: int | None = None) -> list[history.Commit]:
    """Commits that touch source, of a file or of the history here; ``read``: of the first so many. Raises SystemExit."""
    source = history.read_commits(commits) if commits else git_history.read_git(_repository())
    found = [commit for commit in islice(source, read) if commit.in_domain]
    if not found:
        msg = "the history has no commit that touches source; name another with --commits"
        raise SystemExit(msg)
    return found


def examples(count: int) -> Iterator[tuple[bytes, bytes]]:
    """The same of the agent's examples: messages that are alike in every clone, whatever its history."""
    return _numbered(count, [msgspec.json.encode(each) for each in AGENT.examples])


def _numbered(count: int, inputs: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for number, value in zip(range(count), cycle(inputs), strict=False):
        key = b"%032x" % (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)
        yield key, b'{"id":"%s","agent":"documentation-keeper","input":%s}' % (key, value)


def _repository() -> Path:
    top = subprocess.run(["git", "rev-parse", "--show-toplevel"], check=True, capture_output=True, text=True)
    return Path(top.stdout.strip())
