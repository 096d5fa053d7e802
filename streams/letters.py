"""Dead letters as they lie in their topic: what each says, which ones are meant, and whether one can be sent again."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from pointsman.schemas import dead_letter
from pointsman.schemas.outcome import Place
from pointsman.schemas.retry import HEADER_KEPT, Kept, Redriven
from pointsman.streams.decisions.retry import kept_in, redriven_of
from pointsman.streams.output import Record
from pointsman.streams.topics import Names
from pointsman.streams.whole import whole

_HASHED_KEY: Final = re.compile(rb"sha256:[0-9a-f]{64}")


class _Request(Struct):
    """What a letter's value says of itself, where it can be read."""

    id: str = ""
    agent: str = ""


class _Hash(Struct, forbid_unknown_fields=True):
    """What stands in a letter for a value that was too large, written by `decisions.validate.letter`."""

    sha256: str
    bytes: int
    topic: str
    partition: int
    offset: int


_request = msgspec.json.Decoder(_Request).decode
_hash = msgspec.json.Decoder(_Hash).decode


class Letter(Struct, frozen=True, kw_only=True):
    """One dead letter. ``place`` is where the refused message lay; ``letter`` where the letter itself lies."""

    letter: Place
    at_ms: int
    """Time of the letter, in milliseconds since 1970."""
    reason: str
    field: str
    expected: str
    place: Place
    attempt: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    """The message's own, as received."""
    kept: Kept | None
    redriven: Redriven | None
    request_id: str
    """Empty where the value cannot be read so far; the same for the agent."""
    agent: str

    @property
    def name(self) -> str:
        """How people name it: partition and offset of the letter."""
        return f"{self.letter.partition}/{self.letter.offset}"

    @property
    def at(self) -> datetime:
        """Its time, in UTC."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @property
    def times_redriven(self) -> int:
        """How often its message was sent again before it came here."""
        return self.redriven.count if self.redriven else 0

    @property
    def identity(self) -> tuple[int, int, int]:
        """Partition, offset and time: another letter than one at the same place of a topic that was made anew."""
        return self.letter.partition, self.letter.offset, self.at_ms


class Wanted(Struct, frozen=True, kw_only=True):
    """Which letters are meant; what is empty or None leaves nothing out."""

    names: Collection[str] = ()
    """As in `Letter.name`."""
    reasons: Collection[str] = ()
    agents: Collection[str] = ()
    partitions: Collection[int] = ()
    """Of the refused message."""
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        return (
            (not self.names or letter.name in self.names)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.agents or letter.agent in self.agents)
            and (not self.partitions or letter.place.partition in self.partitions)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


def read(record: Record) -> Letter:
    """A letter from its record. Raises ValueError where it is none of ours."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    missing = [name for name in dead_letter.HEADERS if name not in headers]
    if missing:
        msg = f"no dead letter of ours: it lacks the headers {', '.join(missing)}"
        raise ValueError(msg)
    request = _decoded(_request, record.value) or _Request()
    return Letter(
        letter=Place(topic=record.topic, partition=record.partition, offset=record.offset),
        at_ms=record.timestamp,
        reason=headers[dead_letter.HEADER_REASON],
        field=headers[dead_letter.HEADER_FIELD],
        expected=headers[dead_letter.HEADER_EXPECTED],
        place=Place(
            topic=headers[dead_letter.HEADER_TOPIC],
            partition=int(headers[dead_letter.HEADER_PARTITION]),
            offset=int(headers[dead_letter.HEADER_OFFSET]),
        ),
        attempt=int(headers[dead_letter.HEADER_ATTEMPT]),
        key=record.key,
        value=record.value,
        headers=tuple(
            (name, value)
            for name, value in record.headers
            if name not in dead_letter.HEADERS and name != HEADER_KEPT
        ),
        kept=kept_in(record.headers),
        redriven=redriven_of(record.headers),
        request_id=request.id,
        agent=request.agent,
    )


async def letters(servers: str, names: Names) -> AsyncGenerator[Letter, None]:
    """All letters of a deployment that can be read as such."""
    async with aclosing(whole(servers, names.dead_letters)) as records:
        async for record in records:
            try:
                letter = read(record)
            except ValueError:
                continue  # somebody else wrote it; the sink counts and logs it
            yield letter


def obstacle(letter: Letter, names: Names, times_max: int) -> str:
    """Why a letter cannot be sent again, for people; empty where it can. ``times_max``: of its message."""
    key = letter.key or b""
    obstacles = (
        (
            letter.place.topic not in (names.requests, names.feedback),
            f"it came from {letter.place.topic}, which nobody sends to",
        ),
        (
            letter.reason in dead_letter.OF_BATCHES,
            "it stands for a batch that could not be read: send its messages again where they came from",
        ),
        (not letter.value, "its message has no value"),
        (
            _decoded(_hash, letter.value) is not None,
            "its bytes were too large to be kept: send the message again where it came from",
        ),
        (_HASHED_KEY.fullmatch(key) is not None, "its key was too large to be kept"),
        (
            letter.times_redriven >= times_max,
            f"it came back {letter.times_redriven} times already: mend the cause, then use --force",
        ),
    )
    return next((why for stands, why in obstacles if stands), "")


def _decoded(decode: Any, value: bytes | None) -> Any:
    try:
        return decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
