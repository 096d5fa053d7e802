"""`PartitionState`: what the agents remember of one partition's units, and what a batch changes of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping

from pointsman.models.agent import Agent
from pointsman.models.state import Changes, Limits, Told, Units
from pointsman.schemas.errors import InvalidMessage
from pointsman.streams import metrics
from pointsman.streams.feedback import check_feedback
from pointsman.streams.output import Message, Record, sent_at
from pointsman.streams.state.changelog import APPLIED, Pair, applied, entry, messages, records
from pointsman.streams.state.snapshot import Snapshot

logger = logging.getLogger(__name__)


class PartitionState:
    """As far as it is committed."""

    def __init__(
        self,
        agents: Mapping[str, Agent],
        limits: Limits,
        *,
        snapshot: Snapshot | None = None,
        at_least_once: bool = False,
    ) -> None:
        """``snapshot``: where what is committed is kept beside the changelog; None: nowhere.

        ``at_least_once``: records may come again whose changes are here already.
        """
        self.snapshot = snapshot
        self.at_least_once = at_least_once
        self.applied: dict[str, int] = {}
        """By topic, the offset up to which records have changed the state; kept where they may come again."""
        self.units = {name: Units(agent.state, limits) for name, agent in agents.items() if agent.state}
        self._shown: dict[str, int] = {}

    def __len__(self) -> int:
        """Values and notes."""
        return sum(map(len, self.units.values()))

    def load(self, key: bytes | None, value: bytes | None) -> None:
        """One record of the changelog, in its order. Those of agents that are not loaded, or of other versions, rest."""
        found = entry(key, value)
        if found is None:
            return
        if found.name[0] == APPLIED:
            self.applied = dict(found.content or {})
            return
        units = self.units.get(found.agent)
        if units is not None and found.version == units.state.version:
            units.load(found.name, found.content)

    def begin(self) -> StateDraft:
        """What the next batch changes."""
        return StateDraft(self)

    def keep(self, draft: StateDraft, end: int | None) -> None:
        """It was committed; ``end``: the offset behind its records, None where nothing changed."""
        for name, changes in draft.changes.items():
            self.units[name].keep(changes)
        self.applied = draft.applied
        for of, count in draft.told.items():
            metrics.STATE_LABELS.labels(*of).inc(count)
        self.show()
        if end is not None and self.snapshot is not None:
            self.snapshot.append(draft.written, end)

    def live(self) -> Iterator[Pair]:
        """Everything as records, in an order that loads to the same."""
        for name, units in self.units.items():
            yield from records(name, units)

    def show(self) -> None:
        """How much there is, in the metrics of all partitions together."""
        for name, units in self.units.items():
            metrics.STATE_NOTES.labels(name).inc(len(units.notes) - self._shown.get(name, 0))
            self._shown[name] = len(units.notes)

    def close(self) -> None:
        """It is another's now."""
        for name, shown in self._shown.items():
            metrics.STATE_NOTES.labels(name).dec(shown)
        self._shown.clear()
        if self.snapshot is not None:
            self.snapshot.close()


class StateDraft:
    """What a batch changes; nothing of it counts before `PartitionState.keep`."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self.changes: dict[str, Changes] = {}
        self.applied = dict(state.applied)
        """As `PartitionState.applied`, with this batch."""
        self.touched: set[str] = set()
        """Units whose state was looked at or changed."""
        self.told: Counter[tuple[str, str]] = Counter()
        """Labels, by agent and what became of them."""
        self.written: list[Message] = []
        """For the changelog."""

    def of(self, agent: str) -> Changes | None:
        """An agent's; None for one that keeps nothing."""
        units = self._state.units.get(agent)
        if units is None:
            return None
        found = self.changes.get(agent)
        if found is None:
            found = self.changes[agent] = Changes(units)
        return found

    def comes_again(self, record: Record) -> bool:
        """Whether a record's changes are here already; noted down where they are not."""
        if not self._state.at_least_once:
            return False
        if record.offset < self._state.applied.get(record.topic, 0):
            return True
        self.applied[record.topic] = max(record.offset + 1, self.applied.get(record.topic, 0))
        return False

    def learn(self, record: Record) -> None:
        """One record of feedback. What breaks its contract is the sink's to report; what an agent cannot learn from is lost."""
        if self.comes_again(record):
            return
        try:
            event = check_feedback(record)
        except InvalidMessage:
            return
        if event.unit is not None:
            self.touched.add(event.unit)
        if event.label is None or (changes := self.of(event.agent)) is None:
            return
        told = Told(event.decision_id, event.label, sent_at(record))
        try:
            known = changes.learn(told)
        except Exception:  # an agent's code may raise anything
            self.told[event.agent, "error"] += 1
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            logger.exception("an agent could not learn from a label", extra={"agent": event.agent, **place})
            return
        self.told[event.agent, "learned" if known else "unknown"] += 1

    def messages(self) -> list[Message]:
        """All that changed, for the changelog; last, where records may come again, how far that is."""
        self.written = [
            message
            for agent, changes in self.changes.items()
            for message in messages(agent, self._state.units[agent].state.version, changes)
        ]
        if self.applied != self._state.applied:
            self.written.append(applied(self.applied))
        return self.written
