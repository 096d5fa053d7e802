"""Records to requests: each becomes an `Accepted`, a `Rejected` or a duplicate; none stops the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from typing import Any, Final

import msgspec

from pointsman.models.agent import Agent
from pointsman.schemas import dead_letter
from pointsman.schemas.codec import DEPTH_MAX, Decoder, too_deep
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.request import DecisionRequest, check_name
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN
from pointsman.streams.decisions.duplicates import Answered, content_hash, key, short
from pointsman.streams.output import Headers, Message, Record
from pointsman.streams.unreadable import error_of, place_of

_decode_request = Decoder(DecisionRequest).decode

TEXT_BYTES_MAX: Final = 500
"""A header of a dead letter is a text for people; a sender's own text in it is cut."""
HEADER_BYTES_MAX: Final = 8_192
"""Of a header that Pointsman writes as JSON: it has some 600, and 7,000 where two texts in it are all escapes."""
KEY_BYTES_MAX: Final = 4_096
"""A valid key has 800 bytes at most. A key as large as a message would make a letter that no broker takes."""
RECEIVED_HEADERS_BYTES_MAX: Final = 16_384
"""Headers go into the letter as received up to this; then none do, for the same reason."""
_OURS: Final = frozenset({*dead_letter.HEADERS, HEADER_KEPT})


class Accepted(msgspec.Struct, gc=False):
    """A valid request on its way."""

    record: Record
    request: DecisionRequest
    input: Any
    content_hash: int


@dataclass(slots=True)
class Rejected:
    """A record that broke its contract."""

    record: Record
    error: InvalidMessage
    request_id: str = ""
    """Where the message could be read so far."""


@dataclass(slots=True)
class Checked:
    """A batch, sorted out; requests by agent, in order."""

    accepted: dict[str, list[Accepted]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: dict[str, int] = field(default_factory=dict)
    answered: dict[int, int] = field(default_factory=dict)
    """Ids that this batch answers, as `Answered.keep` takes them."""


class Validator:
    """Checks records against the contracts of the loaded agents."""

    def __init__(self, agents: Mapping[str, Agent], request_bytes_max: int) -> None:
        # One a contract, not one an agent: what is used more often is in the processor's caches.
        decoder = cache(partial(Decoder[Any], path="input"))
        self._inputs = {name: decoder(agent.input_type) for name, agent in agents.items()}
        self._bytes_max = request_bytes_max

    def check(self, records: list[Record], answered: Answered, here: dict[int, int] | None = None) -> Checked:
        """Sort a batch out. Repeats are found within the batch too.

        ``here``: ids that another input's part of the same batch answers; those of this part are added.
        """
        checked = Checked() if here is None else Checked(answered=here)
        for record in records:
            value, request_id = record.value or b"", ""
            try:
                if not value or len(value) > self._bytes_max or too_deep(value):
                    raise self._unread(value)
                if not value.isascii():
                    _check_utf8(value)
                request = _decode_request(value)
                request_id = request.id
                decoder = self._inputs.get(request.agent)
                if decoder is None or record.key != (request.unit or request_id).encode():
                    raise self._misplaced(request)
                content = content_hash(value)
                mine, its = key(request_id), short(content)
                known = answered.get(mine)
                if known is None:
                    known = checked.answered.get(mine)
                if known is None:
                    accepted = Accepted(record, request, decoder.decode(request.input), content)
                    checked.accepted.setdefault(request.agent, []).append(accepted)
                    checked.answered[mine] = its
                elif known == its:
                    checked.duplicates[request.agent] = checked.duplicates.get(request.agent, 0) + 1
                else:
                    raise InvalidMessage(
                        "id_reused", "id", "an id that was not used before with other content"
                    )
            except InvalidMessage as error:
                checked.rejected.append(Rejected(record, error_of(record, error), request_id))
        return checked

    def _unread(self, value: bytes) -> InvalidMessage:
        """Why the decoder does not see it: there is nothing, too much, or it is too deep."""
        if not value:
            return InvalidMessage("empty_value", "value", "a JSON object")
        if len(value) > self._bytes_max:
            return InvalidMessage("too_large", "value", f"at most {self._bytes_max} bytes, not {len(value)}")
        return InvalidMessage("too_deep", "value", f"at most {DEPTH_MAX} levels of arrays and objects")

    def _misplaced(self, request: DecisionRequest) -> InvalidMessage:
        """Why a request is none of a loaded agent, or has another one's key."""
        if request.agent in self._inputs:
            what = "unit" if request.unit else "id"
            return InvalidMessage("bad_key", "key", f"the request's {what} in UTF-8")
        check_name(request.agent)
        names = ", ".join(sorted(self._inputs))
        return InvalidMessage("unknown_agent", "agent", f"one of {names}, not {request.agent}")


def letter(rejected: Rejected, bytes_max: int, attempt: int = 1, kept: Headers = ()) -> Message:
    """The dead letter: the bytes as received, or hash, length and place where they are too many.

    ``attempt``: how often it was tried; ``kept``: headers of a request that was tried again.

    It always fits a batch: a letter that the broker refuses would hold its partition up for ever.
    """
    record, error = rejected.record, rejected.error
    key, (offset, value) = record.key, place_of(record)
    if key is not None and len(key) > KEY_BYTES_MAX:
        key = b"sha256:" + sha256(key).hexdigest().encode()
    if value is not None and len(value) > bytes_max:
        value = msgspec.json.encode(
            {
                "sha256": sha256(value).hexdigest(),
                "bytes": len(value),
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
            }
        )
    headers = [
        (dead_letter.HEADER_REASON, error.reason.encode()),
        (dead_letter.HEADER_FIELD, cut(error.field)),
        (dead_letter.HEADER_EXPECTED, cut(error.expected)),
        (dead_letter.HEADER_TOPIC, record.topic.encode()),
        (dead_letter.HEADER_PARTITION, str(record.partition).encode()),
        (dead_letter.HEADER_OFFSET, str(offset).encode()),
        (dead_letter.HEADER_ATTEMPT, str(attempt).encode()),
        *kept,
        *received(record.headers),
    ]
    # A record needs a key or a value; one that came with neither gets an empty key.
    return (key if key is not None or value is not None else b"", value, headers)


def received(headers: Headers) -> Headers:
    """The sender's headers but for those that say something about the letter: nobody can speak in its name."""
    if sum(len(name) + len(value or b"") for name, value in headers) > RECEIVED_HEADERS_BYTES_MAX:
        # But for this one, small where it is ours: without it nobody would know how often it came back.
        return [h for h in headers if h[0] == HEADER_REDRIVEN and len(h[1] or b"") <= HEADER_BYTES_MAX]
    return [(name, value) for name, value in headers if name not in _OURS]


def cut(text: str) -> bytes:
    """A text of somebody else's, short enough for a header."""
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= TEXT_BYTES_MAX else raw[:TEXT_BYTES_MAX].decode("utf-8", "ignore").encode()


def _check_utf8(value: bytes) -> None:
    """The decoder looks into what it knows only; what it skips goes out again in the outcome's `input`."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise InvalidMessage("not_json", "value", f"UTF-8 ({error.reason} at byte {error.start})") from error
