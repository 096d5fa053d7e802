"""A history as events in the order in which they happened: what was asked, and what became known later. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import merge
from itertools import groupby
from typing import Final, Literal

import msgspec
from msgspec import Struct

from pointsman.models.agents.documentation_keeper.history import Commit
from pointsman.models.agents.documentation_keeper.landings import known
from pointsman.models.agents.documentation_keeper.measure import NEEDED
from pointsman.models.agents.documentation_keeper.signals import Signal, signals

AGENT: Final = "documentation-keeper"
SHA: Final = 10
"""Digits of a sha that name a commit to people; a second commit with the same ones gets a number."""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened at replay time ``at``: a question, a label or a signal about decision ``id``."""

    at: datetime
    id: str
    unit: str
    """The repository: what was learned of it tells the later decisions."""
    kind: Literal["ask", "label", "signal"]
    body: bytes = b""
    """Of a question: its input as JSON."""
    value: str = ""
    """Of a label or signal."""


class Timeline(Struct, frozen=True, kw_only=True):
    """All events, and how many commits they come from."""

    events: list[Event]
    commits: int
    repositories: int

    @property
    def asked(self) -> int:
        """Questions in it."""
        return sum(event.kind == "ask" for event in self.events)


class _Told(Struct):
    """One repository so far: its time never runs backwards, though committers' clocks do."""

    now: datetime
    ids: dict[str, str]
    asked: dict[str, datetime]


def build(commits: Iterable[Commit], run: str, limit: int = 0) -> Timeline:
    """Events of the commits, in order of time; ids begin with ``run``. ``limit``: the newest so many questions.

    Only commits in the agent's domain are asked about; all of them show how earlier ones fared.
    """
    builder = _Builder(run)
    for signal in signals(builder.see(commits)):
        builder.learn(signal)
    events = _ordered(builder.asks, builder.learned, limit)
    return Timeline(events=events, commits=builder.commits, repositories=len(builder.told))


class _Builder:
    """Collects events while the commits pass by."""

    def __init__(self, run: str) -> None:
        self.told: dict[str, _Told] = {}
        self.asks: list[Event] = []
        self.learned: list[Event] = []
        self.commits = 0
        self._run = run
        self._used: dict[str, int] = {}

    def see(self, commits: Iterable[Commit]) -> Iterator[Commit]:
        """The same commits; each leaves its question here, and the labels that are known once it is made."""
        for _, mine in groupby(commits, key=lambda commit: commit.repository):
            together = list(mine)
            ids = []
            for commit, places in zip(together, known(together), strict=True):
                self.commits += 1
                ids.append(self._see(commit))
                for place in places:
                    self._label(together[place], ids[place])
                yield commit

    def _see(self, commit: Commit) -> str:
        """The id of its question; empty where there is none."""
        state = self.told.get(commit.repository)
        if state is None:
            state = self.told[commit.repository] = _Told(now=commit.committed_at, ids={}, asked={})
        state.now = max(state.now, commit.committed_at)
        if not commit.in_domain:
            return ""
        id_ = self._name(commit.sha[:SHA])
        state.ids[commit.sha] = id_
        state.asked[commit.sha] = state.now
        unit, body = commit.request.repository, msgspec.json.encode(commit.request)
        self.asks.append(Event(at=state.now, id=id_, unit=unit, kind="ask", body=body))
        return id_

    def _label(self, commit: Commit, id_: str) -> None:
        """Documentation is there now; that there is none is known when the landing has landed."""
        now = self.told[commit.repository].now
        at = now if commit.truth == NEEDED else max(now, commit.landed_at)
        unit = commit.request.repository
        self.learned.append(Event(at=at, id=id_, unit=unit, kind="label", value=commit.truth))

    def _name(self, sha: str) -> str:
        self._used[sha] = self._used.get(sha, 0) + 1
        again = f"-{self._used[sha]}" if self._used[sha] > 1 else ""
        return f"{self._run}-{sha}{again}"

    def learn(self, signal: Signal) -> None:
        """A signal about a commit that was asked about; about others nobody decided anything."""
        state = self.told[signal.repository]
        id_ = state.ids.get(signal.sha)
        if id_ is not None:
            at = max(signal.known_at, state.asked[signal.sha])
            self.learned.append(
                Event(at=at, id=id_, unit=signal.repository[:200], kind="signal", value=signal.kind)
            )


def _ordered(asks: list[Event], learned: list[Event], limit: int) -> list[Event]:
    """By time; at the same moment what is asked comes before what is learned."""
    asks.sort(key=lambda event: event.at)
    if limit and len(asks) > limit:
        asks = asks[-limit:]
        kept = {event.id for event in asks}
        learned = [event for event in learned if event.id in kept]
    learned.sort(key=lambda event: event.at)
    return list(merge(asks, learned, key=lambda event: (event.at, event.kind != "ask")))
