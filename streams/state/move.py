"""What must be written so that every unit's state lies where its records will, once topics have more partitions. No Kafka here.

A partition that receives something is written anew as a whole, in the order of the last changes of all that it then holds,
for this order says what goes first when a bound is reached. What is kept of a partition itself stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import Final, NamedTuple, TypeAlias

import msgspec

from pointsman.streams.output import Message
from pointsman.streams.partitioner import Home
from pointsman.streams.state.changelog import APPLIED, Pair

Held: TypeAlias = dict[bytes, bytes]
"""A partition's changelog, compacted: the last value of each key, in the order of the last changes."""
NO_HEADERS: Final[list[tuple[str, bytes]]] = []
_key: Final = msgspec.json.Decoder(tuple[str, str, str, str, str]).decode


class _Head(msgspec.Struct):
    """Of a `StateEntry`, what places it."""

    at: float
    unit: str = ""


_head: Final = msgspec.json.Decoder(_Head).decode


class Placed(NamedTuple):
    """One entry, sortable: entries of a partition stay in their order, those of several go by time."""

    at: float
    """When it was changed. Where a clock went back it follows what stands before it at once."""
    partition: int
    number: int
    unit: str
    key: bytes
    value: bytes


@dataclass(slots=True)
class Move:
    """What is to be written by partition, in order."""

    messages: dict[int, list[Message]] = field(default_factory=dict)
    units: set[str] = field(default_factory=set)
    """Those that move."""
    entries: int = 0
    """Values and notes that move."""
    strange: set[str] = field(default_factory=set)
    """Units that lie where their keys lead neither by the old nor by the new number of partitions."""


def hold(held: Held, pairs: Iterable[tuple[bytes | None, bytes | None]]) -> None:
    """Records of a changelog, in their order."""
    for key, value in pairs:
        if key is not None:
            held.pop(key, None)
            if value:
                held[key] = value


def move(held: Sequence[Mapping[bytes, bytes]], before: int, after: int, home: Home) -> Move:
    """Of all partitions' changelogs; ``before``: the number of partitions by which they were written."""
    found = Move()
    kept: dict[int, dict[bytes, bytes]] = {}
    gone: dict[int, list[Pair]] = {}
    grown: set[int] = set()
    for each in merge(*(_placed(number, entries) for number, entries in enumerate(held))):
        key = each.unit.encode()
        target = home(key, after)
        mine = kept.setdefault(target, {})
        mine.pop(each.key, None)  # where a unit lies in two partitions the later change counts
        mine[each.key] = each.value
        if each.partition == target:
            continue
        if each.partition != home(key, before):
            found.strange.add(each.unit)
        found.units.add(each.unit)
        found.entries += 1
        gone.setdefault(each.partition, []).append((each.key, None))
        grown.add(target)
    for number in sorted(gone.keys() | grown):
        pairs = [*gone.get(number, ()), *(kept.get(number, {}).items() if number in grown else ())]
        found.messages[number] = [(key, value, NO_HEADERS) for key, value in pairs]
    return found


def _placed(partition: int, held: Mapping[bytes, bytes]) -> Iterator[Placed]:
    """A partition's entries in their order; without what is no unit's."""
    for number, (key, value) in enumerate(held.items()):
        try:
            _, _, kind, unit, _ = _key(key)
            head = _head(value)
        except (msgspec.DecodeError, RecursionError):
            continue
        if kind == APPLIED:
            continue
        yield Placed(head.at, partition, number, unit if kind == "value" else head.unit, key, value)
