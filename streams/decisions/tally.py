"""`Tally`: sums between two summaries of a partition, and the ledger that is committed with the offsets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from pointsman.schemas.codec import encode
from pointsman.schemas.summary import ArmSummary, Ledger, Summary
from pointsman.streams.decisions.route import Counter
from pointsman.streams.output import Message

LEDGER_KEY = b"_ledger"
METADATA_BYTES_MAX = 4_000
"""The broker's `offset.metadata.max.bytes` is 4,096."""


class Metadata(Struct, omit_defaults=True):
    """What is committed beside an offset: as small as may be."""

    even: dict[str, Counter] = {}
    """Agent to its split counter."""
    ledger: Ledger | None = None
    """Counts since the last summary, so that a crash loses none."""
    waited: list[Ledger] = []
    """The same of each delay topic that something was read from since."""
    of: int = 0
    """How many partitions the requests had: by so many, what is kept of each unit was placed. 0: not said."""
    token: int = 0
    """Drawn for each commit: tells whether one whose answer was lost was committed, and was one's own."""


def encode_metadata(metadata: Metadata) -> str:
    """JSON that fits the broker's limit; of more counters than fit, the longest are left out and begin anew."""
    even = dict(metadata.even)
    text = _json(metadata)
    while len(text.encode()) > METADATA_BYTES_MAX:
        del even[max(even, key=len)]
        text = _json(msgspec.structs.replace(metadata, even=even))
    return text


def _json(metadata: Metadata) -> str:
    return msgspec.json.encode(metadata).decode()


def decode_metadata(text: str) -> Metadata:
    """Metadata as it was committed; empty where there is none or another writer left its own."""
    if not text:
        return Metadata()
    try:
        return msgspec.json.decode(text, type=Metadata)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Metadata()


class Tally:
    """Sums since the last summary. Of the arms' sums a crash loses a second at most; of the ledger, nothing."""

    def __init__(self, lane: str, interval_s: float) -> None:
        self.arms: dict[tuple[str, str], ArmSummary] = {}
        self._lane = lane
        self._interval_s = interval_s
        self._published = time.monotonic()

    def add(self, arms: Mapping[str, ArmSummary]) -> None:
        """Add a committed batch."""
        for arm in arms.values():
            known = self.arms.get((arm.agent, arm.arm))
            if known is None:
                self.arms[arm.agent, arm.arm] = arm
            else:
                merge(known, arm)

    def due(self, ledgers: Iterable[Ledger] = ()) -> float | None:
        """Seconds until the next summary, or None where there is nothing to say."""
        if not self.arms and not any(ledger.requests for ledger in ledgers):
            return None
        return max(0.0, self._published + self._interval_s - time.monotonic())

    def messages(self, ledgers: Iterable[Ledger] = ()) -> list[Message]:
        """A summary an agent, and one with each ledger."""
        now = datetime.now(UTC)
        by_agent: dict[str, list[ArmSummary]] = {}
        for (agent, _), arm in self.arms.items():
            by_agent.setdefault(agent, []).append(arm)
        found: list[Message] = [
            (agent.encode(), encode(Summary(at=now, lane=self._lane, arms=arms)), [])
            for agent, arms in by_agent.items()
        ]
        found += [
            (LEDGER_KEY, encode(Summary(at=now, lane=self._lane, ledger=ledger)), [])
            for ledger in ledgers
            if ledger.end > ledger.start
        ]
        return found

    def published(self) -> None:
        """The summary was committed."""
        self.arms = {}
        self._published = time.monotonic()


def merge(into: ArmSummary, other: ArmSummary) -> None:
    """Add one summary to another of the same agent and arm: every field adds."""
    into.decisions += other.decisions
    into.by_ml += other.by_ml
    into.validations += other.validations
    into.escalations += other.escalations
    into.confidence_sum += other.confidence_sum
    into.both_answered += other.both_answered
    into.agreements += other.agreements
    into.latency_sum_ms += other.latency_sum_ms
    for histogram, more in ((into.latency, other.latency),):
        for at, count in more.items():
            histogram[at] = histogram.get(at, 0) + count
    for reason, count in other.fallbacks.items():
        into.fallbacks[reason] = into.fallbacks.get(reason, 0) + count
