"""Requests that failed for a reason that waiting can mend: out to a delay topic, and back with what was kept.

A request that comes back is a record at its first place and time again, so that all that follows (outcome, latency,
shadow sample, trace) is as if it had just come; what it went through stands beside it, in `Came`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from msgspec.structs import replace

from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.dead_letter import REASONS
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.outcome import Cause, History, Place
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN, Assigned, Kept, Redriven
from pointsman.streams.decisions.validate import HEADER_BYTES_MAX, KEY_BYTES_MAX, Rejected, cut, received
from pointsman.streams.output import Headers, Message, Record
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names
from pointsman.streams.unreadable import error_of

T = TypeVar("T")

_kept = Decoder(Kept, HEADER_KEPT)
_redriven = Decoder(Redriven, HEADER_REDRIVEN)


@dataclass(frozen=True, slots=True)
class Came:
    """What a request went through before this attempt."""

    attempt: int = 1
    """Number of this attempt, from 1."""
    kept: Kept | None = None
    """Of a request that comes from a delay topic."""
    taken_from: Place | None = None
    """Where it lay there."""
    redriven: Redriven | None = None
    """Of a request that was sent again from the dead letters."""

    @property
    def assigned(self) -> Assigned | None:
        """The arm that it has already."""
        if self.kept is not None and self.kept.assigned is not None:
            return self.kept.assigned
        return self.redriven.assigned if self.redriven is not None else None

    def history(self) -> History:
        """As its outcome tells it."""
        kept, redriven = self.kept, self.redriven
        first = redriven.first_error if redriven else kept.first_error if kept else None
        return History(
            attempts=self.attempt,
            first_error=first,
            taken_from=self.taken_from,
            redriven=redriven.count if redriven else 0,
            first_place=redriven.place if redriven else None,
        )


FIRST: Final = Came()
"""Nothing: the first attempt of a request that was sent once."""


class Retries:
    """Which failures are tried again, where they wait, and with what."""

    def __init__(self, settings: Settings, names: Names) -> None:
        self._reasons = frozenset(settings.retry_reasons)
        self._delays_ms = settings.retry_delays_ms
        self.topics = names.retries

    def topic(self, rejected: Rejected, attempt: int) -> str | None:
        """Where a request that failed at this attempt waits for the next one; None: it is a dead letter."""
        if rejected.error.reason not in self._reasons or attempt > len(self.topics):
            return None
        key = rejected.record.key
        # With such a key it would be a dead letter in the end, and might not even fit the delay topic.
        return self.topics[attempt - 1] if key is not None and len(key) <= KEY_BYTES_MAX else None

    def message(self, rejected: Rejected, came: Came, assigned: Assigned | None, now_ms: float) -> Message:
        """The request for its delay topic: as received, and what must not be forgotten."""
        record = rejected.record
        kept = replace(
            kept_of(rejected, came, assigned),
            attempt=came.attempt + 1,
            due_ms=int(now_ms) + self._delays_ms[came.attempt - 1],
        )
        headers = [(HEADER_KEPT, encode(kept)), *received(record.headers)]
        return (record.key, record.value, headers)


def kept_of(rejected: Rejected, came: Came, assigned: Assigned | None) -> Kept:
    """What is kept of a request after this attempt."""
    record, error = rejected.record, rejected.error
    return Kept(
        attempt=came.attempt,
        place=Place(topic=record.topic, partition=record.partition, offset=record.offset),
        requested_ms=record.timestamp,
        first_error=came.kept.first_error
        if came.kept
        else Cause(
            reason=error.reason, field=cut(error.field).decode(), expected=cut(error.expected).decode()
        ),
        assigned=came.assigned or assigned,
        taken_from=came.taken_from,
    )


def returned(record: Record, requests: str) -> tuple[Record, Came]:
    """A record of a delay topic as the request that it was. Raises `InvalidMessage` where its header is not ours.

    ``requests``: the topic that it must have come from, in the same partition.
    """
    kept = _found(record.headers, HEADER_KEPT, _kept)
    if kept is None or (kept.place.topic, kept.place.partition) != (requests, record.partition):
        raise InvalidMessage("no_context", HEADER_KEPT, "the context that Pointsman wrote")
    headers = tuple((name, value) for name, value in record.headers if name != HEADER_KEPT)
    place = Place(topic=record.topic, partition=record.partition, offset=record.offset)
    request = Record(
        topic=kept.place.topic,
        partition=kept.place.partition,
        offset=kept.place.offset,
        timestamp=kept.requested_ms,
        timestamp_type=record.timestamp_type,
        key=record.key,
        value=record.value,
        headers=headers,
    )
    return request, Came(kept.attempt, kept, place, _sent_again(headers, requests))


def all_returned(
    records: Iterable[Record], requests_topic: str
) -> tuple[list[Record], dict[int, Came], list[Rejected]]:
    """Requests of a delay topic, what they went through by identity, and what is no request of ours."""
    requests: list[Record] = []
    came: dict[int, Came] = {}
    foreign: list[Rejected] = []
    for record in records:
        try:
            request, went = returned(record, requests_topic)
        except InvalidMessage as error:
            foreign.append(Rejected(record, error_of(record, error)))
        else:
            requests.append(request)
            came[id(request)] = went
    return requests, came, foreign


def sent_again(records: Iterable[Record], requests: str) -> dict[int, Came]:
    """Of some requests, by identity, those that come from the dead letters."""
    found: dict[int, Came] = {}
    for record in records:
        if record.headers and (redriven := _sent_again(record.headers, requests)) is not None:
            found[id(record)] = Came(redriven=redriven)
    return found


def _sent_again(headers: Headers, requests: str) -> Redriven | None:
    """The header of a redriven request, if it says what ours can say: producers write to this topic too."""
    found = redriven_of(headers)
    if found is None or found.place.topic != requests or found.first_error.reason not in REASONS:
        return None
    return found


def redriven_of(headers: Headers) -> Redriven | None:
    """What the header of a request that was sent again says; None where there is none of ours."""
    return _found(headers, HEADER_REDRIVEN, _redriven)


def kept_in(headers: Headers) -> Kept | None:
    """What was kept of a request; None where there is none of ours."""
    return _found(headers, HEADER_KEPT, _kept)


def _found(headers: Headers, name: str, decoder: Decoder[T]) -> T | None:
    for each, value in headers:
        if each == name and value and len(value) <= HEADER_BYTES_MAX:
            try:
                return decoder.decode(value)
            except InvalidMessage:
                return None  # whoever wrote it: it says nothing of ours
    return None
