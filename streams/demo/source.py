"""The demo's input: a git repository or a file of commits, and what a person should know about it."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from pointsman.models.agents.documentation_keeper.git_history import read_git
from pointsman.models.agents.documentation_keeper.history import Commit, read_commits
from pointsman.streams.cli.failure import Usage

NEWEST: Final = 10_000
"""Commits of a git repository that are replayed unless a limit says otherwise: some twenty seconds' work."""
FEW: Final = 100
"""Below so many decisions with known truth an accuracy says next to nothing."""
ANOTHER: Final = "choose another with --git PATH or --commits FILE"


class NoInput(Usage):
    """There is no history to replay; the message says how to choose one."""


class Source(Struct, frozen=True, kw_only=True):
    """Where the commits come from."""

    name: str
    git: Path | None = None
    commits: Path | None = None

    def read(self, limit: int) -> Iterable[Commit]:
        """The commits, in their order; ``limit`` 0: all. Raises `HistoryError` and `NoInput`."""
        if self.commits is not None:
            return read_commits(self.commits)
        assert self.git is not None
        found = iter(read_git(self.git, newest=limit or None, name=self.name))
        first = list(islice(found, 1))
        if not first:
            msg = f"{self.git} has no commits yet; {ANOTHER}"
            raise NoInput(msg)
        return chain(first, found)

    def sha256(self) -> str:
        """Of a file of commits: tells whether a model was trained on it. Empty for a repository."""
        if self.commits is None:
            return ""
        with self.commits.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def choose(git: Path | None, commits: Path | None) -> Source:
    """What the options name, else the repository of the current directory. Raises `NoInput`."""
    if git is not None and commits is not None:
        msg = "--git and --commits are two inputs; choose one"
        raise NoInput(msg)
    if commits is not None:
        if not commits.is_file():
            msg = f"--commits {commits}: no such file"
            raise NoInput(msg)
        return Source(name=commits.name, commits=commits)
    top = _top(git or Path.cwd())
    if top is None:
        where = f"--git {git}" if git else f"the current directory ({Path.cwd()})"
        msg = f"{where} is no git repository; {ANOTHER}"
        raise NoInput(msg)
    return Source(name=top.name.removesuffix(".git") or "repository", git=top)


def _top(folder: Path) -> Path | None:
    """The repository that a folder belongs to; a bare one is its own top."""
    for question in ("--show-toplevel", "--absolute-git-dir"):
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), "rev-parse", question],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            msg = f"git cannot be run ({error.strerror}): install it, or replay a file with --commits FILE"
            raise NoInput(msg) from error
        if "dubious ownership" in done.stderr:
            msg = (
                f"git does not trust {folder}, which belongs to another user: run as that user, or "
                f"`git config --global --add safe.directory {shlex.quote(str(folder.resolve()))}`"
            )
            raise NoInput(msg)
        if done.returncode == 0 and done.stdout.strip():
            return Path(done.stdout.rstrip("\n"))
    return None
