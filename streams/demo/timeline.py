"""A history as events in the order in which they happened: what was asked, and what became known later. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from heapq import merge
from typing import Final, Literal

import msgspec
from msgspec import Struct

from pointsman.models.agents.documentation_keeper.history import Commit
from pointsman.models.agents.documentation_keeper.signals import Signal, signals

AGENT: Final = "documentation-keeper"
SHA: Final = 10
"""Digits of a sha that name a commit to people; a second commit with the same ones gets a number."""


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened at replay time ``at``: a question, a label or a signal about decision ``id``."""

    at: datetime
    id: str
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
    told: dict[str, _Told] = {}
    used: dict[str, int] = {}
    asks: list[Event] = []
    learned: list[Event] = []
    count = 0

    def watched() -> Iterable[Commit]:
        nonlocal count
        for commit in commits:
            count += 1
            _tell(commit, told, used, run, asks, learned)
            yield commit

    for signal in signals(watched()):
        _learn(signal, told[signal.repository], learned)
    return Timeline(events=_ordered(asks, learned, limit), commits=count, repositories=len(told))


def _tell(
    commit: Commit, told: dict[str, _Told], used: dict[str, int], run: str, asks: list[Event], learned: list[Event]
) -> None:
    state = told.get(commit.repository)
    if state is None:
        state = told[commit.repository] = _Told(now=commit.committed_at, ids={}, asked={})
    state.now = max(state.now, commit.committed_at)
    if not commit.in_domain:
        return
    id_ = _name(f"{run}-{commit.sha[:SHA]}", used)
    state.ids[commit.sha] = id_
    state.asked[commit.sha] = state.now
    asks.append(Event(at=state.now, id=id_, kind="ask", body=msgspec.json.encode(commit.request)))
    learned.append(Event(at=max(state.now, commit.landed_at), id=id_, kind="label", value=commit.truth))


def _name(name: str, used: dict[str, int]) -> str:
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}-{used[name]}"


def _learn(signal: Signal, state: _Told, learned: list[Event]) -> None:
    id_ = state.ids.get(signal.sha)
    if id_ is not None:
        at = max(signal.known_at, state.asked[signal.sha])
        learned.append(Event(at=at, id=id_, kind="signal", value=signal.kind))


def _ordered(asks: list[Event], learned: list[Event], limit: int) -> list[Event]:
    """By time; at the same moment what is asked comes before what is learned."""
    asks.sort(key=lambda event: event.at)
    if limit and len(asks) > limit:
        asks = asks[-limit:]
        kept = {event.id for event in asks}
        learned = [event for event in learned if event.id in kept]
    learned.sort(key=lambda event: event.at)
    return list(merge(asks, learned, key=lambda event: (event.at, event.kind != "ask")))
