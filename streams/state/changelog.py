"""The changelog's records: one for each value or note that changed; an empty value takes it away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from pointsman.models.state import Changes, Name, Units
from pointsman.schemas.state import StateEntry
from pointsman.streams.output import Message

_encode: Final = msgspec.json.Encoder().encode
_key: Final = msgspec.json.Decoder(tuple[str, str, str, str, str]).decode
_entry: Final = msgspec.json.Decoder(StateEntry).decode


APPLIED: Final = "applied"
_SHAPES: Final[Mapping[str, type]] = {"value": list, APPLIED: dict}
"""What the content of a kind must be; a record of somebody else's must not keep a partition from being restored."""
Pair: TypeAlias = tuple[bytes, bytes | None]
"""Key and value of a record."""


class Entry(NamedTuple):
    """One record, read back."""

    agent: str
    version: str
    """Of the agent's state."""
    name: Name
    content: Any | None
    """A `Value`, the fields of a `Note`, or of `applied` the offsets by topic."""


def messages(agent: str, version: str, changes: Changes) -> list[Message]:
    """What changed, in the order of the last changes."""
    return [
        (_encode((agent, version, *name)), None if content is None else _value(name, content), [])
        for name, content in changes.records()
    ]


def applied(offsets: Mapping[str, int]) -> Message:
    """Up to where each topic has changed the state: behind all that it changed."""
    return _encode(("", "", APPLIED, "", "")), _encode(StateEntry(at=0, content=offsets)), []


def records(agent: str, units: Units) -> Iterator[Pair]:
    """All that is kept, in an order that loads to the same."""
    version = units.state.version
    for unit, values in units.values.items():
        for key, value in values.items():
            name: Name = ("value", unit, key)
            yield _encode((agent, version, *name)), _value(name, value)
    for decision_id, note in units.notes.items():
        name = ("note", "", decision_id)
        yield _encode((agent, version, *name)), _value(name, note)


def _value(name: Name, content: Any) -> bytes:
    if name[0] == "note":
        return _encode(StateEntry(at=content.at, unit=content.unit, content=content.content))
    return _encode(StateEntry(at=content[0], content=content[1:]))


def entry(key: bytes | None, value: bytes | None) -> Entry | None:
    """A record read back; None where it is not ours."""
    try:
        agent, version, kind, unit, own = _key(key or b"")
        found = _entry(value) if value else None
    except (msgspec.DecodeError, RecursionError):
        return None
    name = (kind, unit, own)
    if found is not None and not isinstance(found.content, _SHAPES.get(kind, object)):
        return None
    if found is None:
        return Entry(agent, version, name, None)
    if kind == APPLIED:
        return Entry(agent, version, name, found.content)
    if kind == "note":
        return Entry(agent, version, name, (found.at, found.unit, found.content))
    return Entry(agent, version, name, (found.at, *found.content))
