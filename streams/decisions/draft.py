"""`Draft`: a batch before its commit, in parts by the topic they were read from; nothing of it counts yet."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiokafka import TopicPartition
from msgspec import UNSET, UnsetType

from pointsman.models.state import Changes
from pointsman.schemas.control import Flag
from pointsman.schemas.outcome import Arm, History
from pointsman.schemas.retry import Assigned
from pointsman.schemas.summary import ArmSummary, Ledger
from pointsman.streams.decisions.ask import Asked
from pointsman.streams.decisions.duplicates import key
from pointsman.streams.decisions.emit import Decided, Decision
from pointsman.streams.decisions.features import Computed, compute
from pointsman.streams.decisions.retry import FIRST, Came
from pointsman.streams.decisions.route import Counter
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.validate import Accepted, Checked, Rejected
from pointsman.streams.output import Output, Record, sent_at
from pointsman.streams.state.partition import StateDraft


def pieces(records: list[Record], size: int) -> Iterator[list[Record]]:
    """Of ``size`` records, in order."""
    for at in range(0, len(records), size):
        yield records[at : at + size]


@dataclass(slots=True)
class Part:
    """What was read of one topic, sorted out."""

    tp: TopicPartition
    read: list[Record]
    """As they were read: their number and places are what the ledger counts."""
    requests: list[Record]
    """The requests that they are: the same, but for delay topics. Held here, for `came` knows them by identity."""
    came: dict[int, Came]
    """By identity of a request's record; empty but for delay topics and what was sent again."""
    checked: Checked = field(default_factory=Checked)
    """Of all slices taken so far; its accepted requests are those that are not computed yet."""
    assigned: dict[int, Assigned] = field(default_factory=dict)
    """What requests that failed were assigned at this attempt, by identity of their records."""
    decided: Decided = field(default_factory=Decided)
    letters: list[Rejected] = field(default_factory=list)
    again: list[tuple[str, int]] = field(default_factory=list)
    """Reason and attempt to come of the requests that are tried again."""

    waited: bool = False
    """Whether it was read from a delay topic."""

    def came_of(self, record: Record) -> Came:
        """What a request went through before."""
        return self.came.get(id(record), FIRST)

    def take(self, checked: Checked) -> None:
        """One more slice that was sorted out."""
        for agent, requests in checked.accepted.items():
            self.checked.accepted.setdefault(agent, []).extend(requests)
        for agent, count in checked.duplicates.items():
            self.checked.duplicates[agent] = self.checked.duplicates.get(agent, 0) + count
        self.checked.rejected += checked.rejected
        self.checked.answered = checked.answered  # the whole batch's

    def compute(
        self, groups: Groups, runtimes: Mapping[str, Runtime], at_least: int, state: StateDraft
    ) -> None:
        """Features and rules of the agents that have so many requests here; each request is computed once."""
        accepted = self.checked.accepted
        for agent in [agent for agent, requests in accepted.items() if len(requests) >= at_least]:
            for assigned, requests in self._by_assigned(accepted.pop(agent)):
                group = groups.get((agent, assigned))
                if group is None:
                    group = groups[agent, assigned] = Group(runtimes[agent], assigned)
                group.compute(requests, state.of(agent))

    def _by_assigned(self, requests: list[Accepted]) -> list[tuple[Assigned | None, list[Accepted]]]:
        """By what they were assigned before; None: they are to be split."""
        if not self.came:
            return [(None, requests)]
        found: dict[Assigned | None, list[Accepted]] = {}
        for each in requests:
            found.setdefault(self.came_of(each.record).assigned, []).append(each)
        return list(found.items())

    def histories(self, requests: list[Accepted]) -> list[History | UnsetType] | None:
        """What the outcomes tell; None where none has anything to tell."""
        if not self.came:
            return None
        return [
            came.history() if (came := self.came.get(id(each.record))) is not None else UNSET
            for each in requests
        ]

    def reject(self, rejected: list[Rejected]) -> None:
        """These requests get no outcome now, so their ids stay free."""
        for each in rejected:
            self.checked.rejected.append(each)
            self.checked.answered.pop(key(each.request_id), None)

    def assign(
        self, split: list[Accepted], candidates: list[bool], bad: list[Rejected], flag: Flag | None
    ) -> list[bool]:
        """Note the arms of those that failed; the arms of the others."""
        failed = {id(each.record) for each in bad}
        percentage, version = (flag.percentage, flag.version) if flag else (0.0, 0)
        kept = []
        for each, candidate in zip(split, candidates, strict=True):
            if id(each.record) in failed:
                arm: Arm = "candidate" if candidate else "control"
                self.assigned[id(each.record)] = Assigned(arm=arm, percentage=percentage, version=version)
            else:
                kept.append(candidate)
        return kept

    def ledger(self, known: Ledger | None, position: int | None) -> Ledger:
        """The counts since the last summary with this part's; ``position``: where reading it began."""
        start, end = self.read[0].offset, self.read[-1].offset + 1
        if known is None:
            at = start if position is None else position
            known = Ledger(topic=self.tp.topic, partition=self.tp.partition, start=at, end=at)
        pending = self.decided.pending
        return Ledger(
            topic=known.topic,
            partition=known.partition,
            start=known.start,
            end=end,
            requests=known.requests + len(self.read),
            outcomes=known.outcomes + len(self.decided.outcomes) - pending,
            pending=known.pending + pending,
            dead_letters=known.dead_letters + len(self.letters),
            duplicates=known.duplicates + sum(self.checked.duplicates.values()),
            retrying=known.retrying + len(self.again),
        )


@dataclass(slots=True)
class Group:
    """One agent's requests of a part that share what they were assigned, computed slice by slice."""

    runtime: Runtime
    assigned: Assigned | None
    requests: list[Accepted] = field(default_factory=list)
    computed: Computed = field(default_factory=Computed)
    features_ms: float = 0.0

    def compute(self, requests: list[Accepted], state: Changes | None = None) -> None:
        """Some more of them."""
        began = time.perf_counter()
        self.requests += requests
        self.computed.add(compute(self.runtime.agent, requests, state))
        self.features_ms += (time.perf_counter() - began) * 1000


Groups: TypeAlias = dict[tuple[str, Assigned | None], Group]
"""By agent, and what its requests were assigned before."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One agent's requests of a part that share a flag's state, before the model is asked."""

    part: Part
    runtime: Runtime
    computed: Computed
    candidates: list[bool]
    flag: Flag | Assigned | None
    features_ms: float
    reached: int | None = None
    """The feedback that an agent with state had learned; None for one without."""


def decision_of(prepared: Prepared, asked: Asked) -> Decision:
    """With the model's answers."""
    computed = prepared.computed
    return Decision(
        runtime=prepared.runtime,
        requests=computed.requests,
        rows=computed.rows,
        candidates=prepared.candidates,
        rules=computed.rules,
        asked=asked,
        flag=prepared.flag,
        features_ms=prepared.features_ms,
        histories=prepared.part.histories(computed.requests),
        reached=prepared.reached,
    )


@dataclass(slots=True)
class Draft:
    """What a batch changes once it is committed."""

    output: Output
    positions: dict[TopicPartition, int]
    even: dict[str, Counter]
    ledgers: dict[str, Ledger]
    """Counts since the last summary, by topic."""
    state: StateDraft
    reads: bool
    """Whether it has read anything."""
    ends: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Once it is committed, the offset behind its messages, by topic and partition."""
    reached: int = 0
    """Of the feedback, what this batch's requests are decided with: the offset up to, without, which it was learned."""
    parts: list[Part] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    """Ids that this batch answers, whatever topic they came from."""
    arms: list[Mapping[str, ArmSummary]] = field(default_factory=list)
    unasked: list[tuple[Runtime, list[Accepted], list[tuple[float, ...]]]] = field(default_factory=list)
    shadows_sent: int = 0
    summary_sent: bool = False
    token: int = field(default_factory=lambda: random.getrandbits(53))
    """Committed with the offsets, so that it can be told later whether this draft was committed."""

    def keep_notes(self, prepared: Iterable[Prepared]) -> None:
        """What agents keep of the requests of a part until their labels come: each agent's in the order of their topic."""
        found: dict[str, list[tuple[Accepted, Any, bool]]] = {}
        for each in prepared:
            if each.computed.notes:
                mine = found.setdefault(each.runtime.agent.name, [])
                mine += [
                    (accepted, note, each.part.waited)
                    for accepted, note in zip(each.computed.requests, each.computed.notes, strict=True)
                ]
        for agent, notes in found.items():
            changes = self.state.of(agent)
            assert changes is not None, "who has notes keeps state"
            for accepted, content, waited in sorted(notes, key=lambda note: note[0].record.offset):
                if (unit := accepted.request.unit) is None:
                    continue
                self.state.touched.add(unit)
                # One that waited for another attempt has its first place, which later ones have passed.
                if content is not None and (waited or not self.state.comes_again(accepted.record)):
                    changes.note(unit, accepted.request.id, content, sent_at(accepted.record))
