"""What a history itself shows of each commit later on: reverted, edited soon after, or left as it was.

Definitions, all in the time of the repository's own commits (never running backwards):

- ``reverted``: a later commit says ``This reverts commit <sha>`` of it, or has the subject ``Revert "<its subject>"``
  (then the newest earlier commit with that subject is meant). Known when that commit was made.
- ``edited``: within three days, another commit by the same author, of another landing, touches one of the same
  files. Known when that commit was made. Later rounds of the same pull request do not count.
- ``accepted``: neither happened within three days, and the history went on for that long. Known after three days.

A commit gets one of ``edited`` and ``accepted`` at most; ``reverted`` may follow either, at any time. These are signs of how the *change* fared, from commits alone; nobody was asked.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from pointsman.models.agents.documentation_keeper.history import Commit

WINDOW: Final = timedelta(days=3)
"""Long enough for a weekend, short enough that a touch still belongs to the change."""
_REMEMBERED: Final = 100_000
"""Commits that can still be found as reverted; older ones are forgotten, so that memory stays bounded."""


class Signal(Struct, frozen=True, kw_only=True):
    """One thing that the history shows of a commit."""

    sha: str
    repository: str
    kind: Literal["accepted", "edited", "reverted"]
    known_at: datetime


def signals(commits: Iterable[Commit]) -> Iterator[Signal]:
    """Signals of commits that come in commit order; in order of ``known_at`` within a repository."""
    watches: dict[str, _Watch] = {}
    for commit in commits:
        watch = watches.get(commit.repository)
        if watch is None:
            watch = watches[commit.repository] = _Watch()
        yield from watch.see(commit)


class _Watch:
    """One repository's commits of the last days, and subjects and shas of those before."""

    def __init__(self) -> None:
        self._now: datetime | None = None
        self._open: deque[tuple[datetime, Commit]] = deque()
        self._edited: set[str] = set()
        self._touched: dict[tuple[str, str], OrderedDict[str, Commit]] = {}
        self._by_subject: OrderedDict[str, str] = OrderedDict()
        self._by_sha: OrderedDict[str, None] = OrderedDict()
        self._reverted: set[str] = set()

    def see(self, commit: Commit) -> Iterator[Signal]:
        self._now = max(self._now or commit.committed_at, commit.committed_at)
        yield from self._close(commit.repository)
        target = self._target(commit)
        if target is not None and target not in self._reverted:
            self._reverted.add(target)
            yield Signal(sha=target, repository=commit.repository, kind="reverted", known_at=self._now)
        yield from self._edits(commit)
        self._add(commit)

    def _close(self, repository: str) -> Iterator[Signal]:
        """Those whose three days are over."""
        assert self._now is not None
        while self._open and self._open[0][0] + WINDOW < self._now:
            seen_at, old = self._open.popleft()
            for file in old.request.files:
                self._forget(old, file.path)
            if old.sha in self._edited:
                self._edited.discard(old.sha)
            elif old.sha not in self._reverted:
                yield Signal(sha=old.sha, repository=repository, kind="accepted", known_at=seen_at + WINDOW)

    def _forget(self, old: Commit, path: str) -> None:
        key = (old.author, path)
        seen = self._touched.get(key)
        if seen is not None:
            seen.pop(old.sha, None)
            if not seen:
                del self._touched[key]

    def _edits(self, commit: Commit) -> Iterator[Signal]:
        assert self._now is not None
        for file in commit.request.files:
            for path in {file.path, file.previous or file.path}:
                for old in self._touched.get((commit.author, path), {}).values():
                    if old.land != commit.land and old.sha not in self._edited:
                        self._edited.add(old.sha)
                        yield Signal(
                            sha=old.sha, repository=old.repository, kind="edited", known_at=self._now
                        )

    def _target(self, commit: Commit) -> str | None:
        if commit.reverts:
            return next((sha for sha in self._candidates(commit.reverts)), None)
        subject = commit.request.subject
        if subject.startswith('Revert "') and '"' in subject[8:]:
            return self._by_subject.get(subject[8 : subject.rindex('"')])
        return None

    def _candidates(self, sha: str) -> Iterator[str]:
        """The commit of that sha; histories abbreviate, in the message or in their own shas."""
        if sha in self._by_sha:
            yield sha
        else:
            yield from (known for known in self._by_sha if known.startswith(sha) or sha.startswith(known))

    def _add(self, commit: Commit) -> None:
        assert self._now is not None
        self._open.append((self._now, commit))
        for file in commit.request.files:
            self._touched.setdefault((commit.author, file.path), OrderedDict())[commit.sha] = commit
        self._by_subject[commit.request.subject] = commit.sha
        self._by_subject.move_to_end(commit.request.subject)
        self._by_sha[commit.sha] = None
        for remembered in (self._by_subject, self._by_sha):
            if len(remembered) > _REMEMBERED:
                remembered.popitem(last=False)
