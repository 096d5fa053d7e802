"""The changelog's records: one for each value or note that changed; an empty value takes it away."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from pointsman.models.state import Changes, Name
from pointsman.streams.output import Message

_encode: Final = msgspec.json.Encoder().encode
_key: Final = msgspec.json.Decoder(tuple[str, str, str, str, str]).decode
_content: Final = msgspec.json.Decoder().decode


class Entry(NamedTuple):
    """One record, read back."""

    agent: str
    version: str
    """Of the agent's state."""
    name: Name
    content: Any | None


def messages(agent: str, version: str, changes: Changes) -> list[Message]:
    """What changed, in the order of the last changes."""
    return [
        (_encode((agent, version, *name)), None if content is None else _encode(content), [])
        for name, content in changes.records()
    ]


def entry(key: bytes | None, value: bytes | None) -> Entry | None:
    """A record read back; None where it is not ours."""
    try:
        agent, version, *name = _key(key or b"")
        return Entry(agent, version, (name[0], name[1], name[2]), _content(value) if value else None)
    except (msgspec.DecodeError, RecursionError):
        return None
