"""Feedback into the database: one row an event and kind; free text, unit and sender apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from pointsman.schemas.feedback import Feedback, kinds
from pointsman.streams.store import copyrow as f
from pointsman.streams.store import rows, writes
from pointsman.streams.store.batch import WriteResult
from pointsman.streams.store.pool import Connection

FREE_TEXT: Final = frozenset({"comment", "correction", "complaint", "critical_error", "safety_violation"})
"""Kinds whose text people write, so that it may speak of people: the text lies apart, the fact is a row."""


async def write(connection: Connection, given: Sequence[Feedback], result: WriteResult) -> None:
    """Writes each event that is new, whether its decision is known or not."""
    keys = [(f.clean(event.decision_id), f.clean(event.id)) for event in given]
    kept = writes.firsts(given, keys, await writes.claim(connection, "claim_feedback", keys))
    result.duplicates += len(given) - len(kept)
    if not kept:
        return
    told, contents = [], []
    for event, salt in zip(kept, rows.salts(len(kept)), strict=True):
        content = personal(event)
        told += kind_rows(event, rows.commitment(salt, event.unit, content))
        contents.append(content_row(event, salt, content))
    await writes.copy(connection, "copy_feedback", [told])
    await writes.copy(connection, "copy_feedback_contents", [contents])
    result.feedback += len(kept)


def personal(event: Feedback) -> bytes:
    """What a person could be known by, unit aside: JSON with ``sender`` and the free texts by kind."""
    texts = {kind: f.clean(str(value)) for kind, value in kinds(event).items() if kind in FREE_TEXT}
    return msgspec.json.encode({"sender": f.clean(event.sender), **texts})


def kind_rows(event: Feedback, committed: bytes) -> list[bytes]:
    """Rows of `decision_feedback`: one a kind."""
    head = b"".join(
        (
            f.count(9),
            f.timestamptz(event.observed_at),
            f.text(event.decision_id),
            f.text(event.agent),
            f.text(event.id),
        )
    )
    return [
        b"".join((head, f.text(kind), _value(kind, value), f.binary(committed)))
        for kind, value in kinds(event).items()
    ]


def _value(kind: str, value: str | float | datetime) -> bytes:
    # Fields value_text, value_number, value_time: at most one is set.
    if isinstance(value, datetime):
        return f.NULL + f.NULL + f.timestamptz(value)
    if isinstance(value, str):
        return (f.NULL if kind in FREE_TEXT else f.text(value)) + f.NULL + f.NULL
    return f.NULL + f.float8(value) + f.NULL


def content_row(event: Feedback, salt: bytes, content: bytes) -> bytes:
    """A row of `feedback_contents`."""
    return b"".join(
        (
            f.count(5), f.text(event.decision_id), f.text(event.id), f.text(event.unit), f.binary(salt),
            f.binary(content),
        )
    )  # fmt: skip
