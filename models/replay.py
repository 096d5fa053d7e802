"""Requests and labels in one order, as a lane takes them: what training replays, and what a run through Kafka must equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from pointsman.models.agent import Agent
from pointsman.models.decider import Row
from pointsman.models.state import Changes, Seen, Told, Units

BATCH: Final = 500
"""Events whose changes are kept together. Rows do not depend on it."""


class Asked(NamedTuple):
    """A request."""

    decision_id: str
    unit: str | None
    at: float
    """When it came, in seconds since 1970."""
    input: Any


Event: TypeAlias = Asked | Told


class Decided(NamedTuple):
    """A request's features."""

    decision_id: str
    row: Row


def replay(
    agent: Agent, events: Iterable[Event], units: Units | None = None, batch: int = BATCH
) -> Iterator[Decided]:
    """The features of every request, in order: each sees the labels that stand before it and no other.

    ``units`` is the state to begin with, and what it has become afterwards. An agent without state learns nothing.
    """
    if agent.state is not None and units is None:
        units = Units(agent.state)
    some: list[Event] = []
    for event in events:
        some.append(event)
        if len(some) == batch:
            yield from _batch(agent, some, units)
            some = []
    yield from _batch(agent, some, units)


def _batch(agent: Agent, events: list[Event], units: Units | None) -> list[Decided]:
    changes = None if units is None else Changes(units)
    decided: list[Decided] = []
    asked: list[Asked] = []
    for event in events:
        if isinstance(event, Asked):
            asked.append(event)
            continue
        decided += _decide(agent, asked, changes)
        asked = []
        if changes is not None:
            changes.learn(event)
    decided += _decide(agent, asked, changes)
    if units is not None and changes is not None:
        units.keep(changes)
    return decided


def _decide(agent: Agent, asked: list[Asked], changes: Changes | None) -> list[Decided]:
    """Requests between two labels; what one of them leaves behind no other sees."""
    if not asked:
        return []
    inputs = [each.input for each in asked]
    seen: list[Seen] | None = None
    if changes is not None and agent.state is not None:
        seen = [changes.seen(each.unit, each.at) for each in asked]
    rows = agent.rows(inputs, seen)
    if changes is not None and agent.state is not None:
        for each, content in zip(asked, agent.state.note(inputs), strict=True):
            if content is not None and each.unit is not None:
                changes.note(each.unit, each.decision_id, content, each.at)
    return [Decided(each.decision_id, row) for each, row in zip(asked, rows, strict=True)]
