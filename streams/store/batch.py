"""What the sink hands to the store: a range of one partition with the messages that lay in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from pointsman.schemas import dead_letter
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.retry import HEADER_KEPT
from pointsman.schemas.summary import Summary
from pointsman.streams.decisions.retry import kept_in

_DECIMAL: Final = re.compile(r"[0-9]{1,19}")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
TOPIC_LETTERS_MAX: Final = 249
"""Kafka's own limit."""


def is_topic(name: str) -> bool:
    """Whether a topic, and a column, can have this name."""
    return 0 < len(name) <= TOPIC_LETTERS_MAX and "\0" not in name


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A refused message: why, and where it lay. Its bytes stay in Kafka."""

    reason: str
    field: str
    expected: str
    topic: str
    partition: int
    offset: int
    attempt: int = 0
    taken_topic: str | None = None
    """The delay topic that the last attempt was taken from, in the partition of the request."""
    taken_offset: int | None = None

    @classmethod
    def from_headers(cls, headers: Sequence[tuple[str, bytes]]) -> DeadLetter:
        """From a record's headers. Raises `InvalidMessage` if the place is missing or the table cannot hold it."""
        # A header of the sender's, which the letter carries on, may have no value.
        found = {name: (value or b"").decode(errors="replace") for name, value in headers}
        topic = found.get(dead_letter.HEADER_TOPIC, "")
        if not is_topic(topic):
            raise InvalidMessage("wrong_type", f"header {dead_letter.HEADER_TOPIC}", "a topic's name")
        kept = kept_in(headers)
        taken = kept.taken_from if kept else None
        if taken and not is_topic(taken.topic):
            raise InvalidMessage("wrong_type", f"header {HEADER_KEPT}.taken_from", "a topic's name")
        return cls(
            reason=found.get(dead_letter.HEADER_REASON, ""),
            field=found.get(dead_letter.HEADER_FIELD, ""),
            expected=found.get(dead_letter.HEADER_EXPECTED, ""),
            topic=topic,
            partition=_number(found, dead_letter.HEADER_PARTITION, _INT32),
            offset=_number(found, dead_letter.HEADER_OFFSET, _INT64),
            attempt=_number({dead_letter.HEADER_ATTEMPT: "0"} | found, dead_letter.HEADER_ATTEMPT, _INT32),
            taken_topic=taken.topic if taken else None,
            taken_offset=taken.offset if taken else None,
        )


def _number(found: Mapping[str, str], name: str, largest: int) -> int:
    text = found.get(name, "")
    if not _DECIMAL.fullmatch(text) or int(text) > largest:
        raise InvalidMessage("wrong_type", f"header {name}", f"a number up to {largest}, not {text[:40]!r}")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkBatch:
    """The records from ``start`` up to, without, ``end`` of one partition, decoded.

    ``start`` is where the last batch ended; the range may hold offsets without a record. What could not be
    decoded is the caller's matter: the range counts as read.
    """

    lane: str
    """Who reads: positions of different lanes are apart."""
    cluster: str
    """Kafka's cluster id. Must differ for each start of a cluster that forgets, for its offsets begin again."""
    topic: str
    partition: int
    start: int
    end: int
    outcomes: Sequence[Outcome] = ()
    shadows: Sequence[ShadowAnswer] = ()
    feedback: Sequence[Feedback] = ()
    authorised: Sequence[bool] = ()
    """Of the feedback, in order, whether it was signed by a source that may report violations; empty: none was."""
    summaries: Sequence[Summary] = ()
    """Of these, the ledgers are kept."""
    dead_letters: Sequence[DeadLetter] = ()
    trace_ids: Sequence[str | None] = ()
    """Of the outcomes, in order; empty if unknown."""
    topic_generation: str = ""
    """Kafka's id of the topic, where the client knows it: a topic made anew starts anew."""

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            msg = f"a range needs 0 <= start <= end, not {self.start} to {self.end}"
            raise ValueError(msg)
        if self.trace_ids and len(self.trace_ids) != len(self.outcomes):
            msg = f"{len(self.trace_ids)} trace ids for {len(self.outcomes)} outcomes"
            raise ValueError(msg)
        if self.authorised and len(self.authorised) != len(self.feedback):
            msg = f"{len(self.authorised)} signatures for {len(self.feedback)} events of feedback"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Unfit:
    """A message that the tables cannot hold: whose it is, and why."""

    name: str
    why: str


@dataclass(slots=True, kw_only=True)
class WriteResult:
    """Messages that were written, and those that had been before (``duplicates``, of any kind)."""

    outcomes: int = 0
    shadows: int = 0
    feedback: int = 0
    ledgers: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    unfit: list[Unfit] = field(default_factory=list)
