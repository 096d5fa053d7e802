"""Feedback into the database: one row an event and kind; free text, unit and sender apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from pointsman.schemas.feedback import Feedback, kinds
from pointsman.streams.store import copyrow as f
from pointsman.streams.store import rows, truth, truths, writes
from pointsman.streams.store.batch import WriteResult
from pointsman.streams.store.pool import Connection


async def write(
    connection: Connection,
    given: Sequence[Feedback],
    authorised: Sequence[bool],
    partition: int,
    result: WriteResult,
) -> None:
    """Writes each event that is new, whether its decision is known or not, and counts what it says.

    ``authorised``: of each, whether a source signed it that may report violations; ``partition``: where they lay.
    """
    keys = [(f.clean(event.decision_id), f.clean(event.id)) for event in given]
    pairs = list(zip(given, authorised, strict=True))
    kept = writes.firsts(pairs, keys, await writes.claim(connection, "claim_feedback", sorted(keys)))
    result.duplicates += len(given) - len(kept)
    if not kept:
        return
    names = [(f.clean(event.decision_id), f.clean(event.agent)) for event, _ in kept]
    # Held before the rows are written: so their `known_at` says in which order they count.
    held = await truths.hold(connection, names, partition)
    rows_, contents = [], []
    for (event, signed), salt in zip(kept, rows.salts(len(kept)), strict=True):
        content = personal(event)
        rows_ += kind_rows(event, rows.commitment(salt, event.unit, content), authorised=signed)
        contents.append(content_row(event, salt, content))
    await writes.copy(connection, "copy_feedback", [rows_])
    await writes.copy(connection, "copy_feedback_contents", [contents])
    told = [
        (name, truth.told_by(event, authorised=signed))
        for name, (event, signed) in zip(names, kept, strict=True)
    ]
    await truths.settle(connection, held, told)
    result.feedback += len(kept)


def personal(event: Feedback) -> bytes:
    """What a person could be known by, unit aside: JSON with ``sender`` and the free texts by kind."""
    texts = {kind: f.clean(str(value)) for kind, value in kinds(event).items() if kind in truth.FREE_TEXT}
    return msgspec.json.encode({"sender": f.clean(event.sender), **texts})


def kind_rows(event: Feedback, committed: bytes, *, authorised: bool) -> list[bytes]:
    """Rows of `decision_feedback`: one a kind."""
    head = b"".join(
        (
            f.count(10),
            f.timestamptz(event.observed_at),
            f.text(event.decision_id),
            f.text(event.agent),
            f.text(event.id),
        )
    )
    return [
        b"".join((head, f.text(kind), _value(kind, value), f.binary(committed), f.boolean(authorised)))
        for kind, value in kinds(event).items()
    ]


def _value(kind: str, value: str | float | datetime) -> bytes:
    # Fields value_text, value_number, value_time: at most one is set.
    if isinstance(value, datetime):
        return f.NULL + f.NULL + f.timestamptz(value)
    if isinstance(value, str):
        return (f.NULL if kind in truth.FREE_TEXT else f.text(value)) + f.NULL + f.NULL
    return f.NULL + f.float8(value) + f.NULL


def content_row(event: Feedback, salt: bytes, content: bytes) -> bytes:
    """A row of `feedback_contents`."""
    return b"".join(
        (
            f.count(5), f.text(event.decision_id), f.text(event.id), f.text(event.unit), f.binary(salt),
            f.binary(content),
        )
    )  # fmt: skip
