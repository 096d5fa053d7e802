"""Records to requests: each becomes an `Accepted`, a `Rejected` or a duplicate; none stops the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import msgspec

from pointsman.models.agent import Agent
from pointsman.schemas import dead_letter
from pointsman.schemas.codec import DEPTH_MAX, Decoder, too_deep
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.request import DecisionRequest
from pointsman.streams.decisions.duplicates import Answered, content_hash, key, short
from pointsman.streams.output import Message, Record

_decode_request = Decoder(DecisionRequest).decode

HEADER_BYTES_MAX: Final = 500
"""A header of a dead letter is a text for people; a sender's own text in it is cut."""


@dataclass(slots=True)
class Accepted:
    """A valid request on its way."""

    record: Record
    request: DecisionRequest
    input: Any
    content_hash: str


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
        self._inputs = {name: Decoder(agent.input_type, "input") for name, agent in agents.items()}
        self._bytes_max = request_bytes_max

    def check(self, records: list[Record], answered: Answered) -> Checked:
        """Sort a batch out. Repeats are found within the batch too."""
        checked = Checked()
        for record in records:
            try:
                self._check_one(record, answered, checked)
            except InvalidMessage as error:
                checked.rejected.append(Rejected(record, error))
        return checked

    def _check_one(self, record: Record, answered: Answered, checked: Checked) -> None:
        value = record.value
        if not value:
            raise InvalidMessage("empty_value", "value", "a JSON object")
        if len(value) > self._bytes_max:
            raise InvalidMessage("too_large", "value", f"at most {self._bytes_max} bytes, not {len(value)}")
        if too_deep(value):
            raise InvalidMessage("too_deep", "value", f"at most {DEPTH_MAX} levels of arrays and objects")
        request = _decode_request(value)
        decoder = self._inputs.get(request.agent)
        if decoder is None:
            known = ", ".join(sorted(self._inputs))
            raise InvalidMessage("unknown_agent", "agent", f"one of {known}, not {request.agent}")
        wanted = request.unit or request.id
        if record.key != wanted.encode():
            what = "unit" if request.unit else "id"
            raise InvalidMessage("bad_key", "key", f"the request's {what} in UTF-8")
        content = content_hash(value)
        seen = answered.seen(request.id, content)
        if seen is None and (known_here := checked.answered.get(key(request.id))) is not None:
            seen = known_here == short(content)
        if seen:
            checked.duplicates[request.agent] = checked.duplicates.get(request.agent, 0) + 1
            return
        if seen is False:
            raise InvalidMessage("id_reused", "id", "an id that was not used before with other content")
        accepted = Accepted(record, request, decoder.decode(request.input), content)
        checked.accepted.setdefault(request.agent, []).append(accepted)
        checked.answered[key(request.id)] = short(content)


def letter(rejected: Rejected, bytes_max: int) -> Message:
    """The dead letter: the bytes as received, or hash, length and place where they are too many."""
    record, error = rejected.record, rejected.error
    value = record.value
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
        (dead_letter.HEADER_FIELD, _cut(error.field)),
        (dead_letter.HEADER_EXPECTED, _cut(error.expected)),
        (dead_letter.HEADER_TOPIC, record.topic.encode()),
        (dead_letter.HEADER_PARTITION, str(record.partition).encode()),
        (dead_letter.HEADER_OFFSET, str(record.offset).encode()),
        (dead_letter.HEADER_ATTEMPT, b"1"),
        *record.headers,
    ]
    # A record needs a key or a value; one that came with neither gets an empty key.
    return (record.key if record.key is not None or value is not None else b"", value, headers)


def _cut(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:HEADER_BYTES_MAX]
