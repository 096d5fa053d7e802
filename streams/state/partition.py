"""`PartitionState`: what the agents remember of one partition's units, and what a batch changes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from pointsman.models.agent import Agent
from pointsman.models.state import Changes, Limits, Told, Units
from pointsman.schemas.errors import InvalidMessage
from pointsman.streams import metrics
from pointsman.streams.feedback import check_feedback
from pointsman.streams.output import Message, Record
from pointsman.streams.state.changelog import entry, messages

logger = logging.getLogger(__name__)


class PartitionState:
    """As far as it is committed."""

    def __init__(self, agents: Mapping[str, Agent], limits: Limits) -> None:
        self.units = {name: Units(agent.state, limits) for name, agent in agents.items() if agent.state}

    def load(self, record: Record) -> None:
        """One record of the changelog, in its order. Those of agents that are not loaded, or of other versions, rest."""
        found = entry(record.key, record.value)
        units = self.units.get(found.agent) if found else None
        if found is not None and units is not None and found.version == units.state.version:
            units.load(found.name, found.content)

    def begin(self) -> StateDraft:
        """What the next batch changes."""
        return StateDraft(self)

    def keep(self, draft: StateDraft) -> None:
        """It was committed."""
        for name, changes in draft.changes.items():
            self.units[name].keep(changes)


class StateDraft:
    """What a batch changes; nothing of it counts before `PartitionState.keep`."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self.changes: dict[str, Changes] = {}

    def of(self, agent: str) -> Changes | None:
        """An agent's; None for one that keeps nothing."""
        units = self._state.units.get(agent)
        if units is None:
            return None
        found = self.changes.get(agent)
        if found is None:
            found = self.changes[agent] = Changes(units)
        return found

    def learn(self, record: Record) -> None:
        """One record of feedback. What breaks its contract is the sink's to report; what an agent cannot learn from is lost."""
        try:
            event = check_feedback(record)
        except InvalidMessage:
            return
        if event.label is None or (changes := self.of(event.agent)) is None:
            return
        told = Told(event.decision_id, event.label, record.timestamp / 1000)
        try:
            known = changes.learn(told)
        except Exception:  # an agent's code may raise anything
            metrics.STATE_LABELS.labels(event.agent, "error").inc()
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            logger.exception("an agent could not learn from a label", extra={"agent": event.agent, **place})
            return
        metrics.STATE_LABELS.labels(event.agent, "learned" if known else "unknown").inc()

    def messages(self) -> list[Message]:
        """For the changelog."""
        return [message for each in self._each() for message in each]

    def _each(self) -> Iterator[list[Message]]:
        for agent, changes in self.changes.items():
            yield messages(agent, self._state.units[agent].state.version, changes)
