"""A record of feedback, checked: for whoever counts it and whoever learns from it."""

from __future__ import annotations

from typing import Final

from pointsman.schemas.codec import Decoder
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.feedback import Feedback
from pointsman.streams.output import Record

_decode: Final = Decoder(Feedback).decode


def check_feedback(record: Record) -> Feedback:
    """A feedback event. Raises `InvalidMessage` that names the field."""
    if not record.value:
        raise InvalidMessage("empty_value", "value", "a JSON object")
    event = _decode(record.value)
    if record.key != (event.unit or event.decision_id).encode():
        raise InvalidMessage("bad_key", "key", "the key of the decision's request: its unit, else its id")
    return event
