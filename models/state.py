"""Keyed state: what an agent remembers of each unit, learned from feedback. No Kafka and no files here.

Two things are kept. *Values*, by unit and finer key: numbers that feedback changes and that features read. *Notes*, by
decision: what the agent wants back when feedback on that decision comes. Requests write notes alone, which features never
see; so features depend on the feedback that was processed before a request, and not on how records were cut into batches.

Everything is kept in the order of its last change, which is the order in which a compacted changelog has it: what is
oldest goes first when a bound is reached, and a state that was restored goes on as the one that was lost would have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

Scalar: TypeAlias = float | int | str
Value: TypeAlias = tuple[Scalar, ...]
"""The moment of its last change in seconds since 1970, then what the agent keeps."""
Values: TypeAlias = Mapping[str, Value]
"""A unit's, by the agent's finer keys."""
NOTHING: Final[Values] = {}
DAY_S: Final = 86_400.0

NOTE_BYTES_MAX: Final = 16 * 1024
"""As JSON. A note is kept for every decision until its label comes, and written to the changelog."""
CHANGED_VALUES_MAX: Final = 100
"""By one label; each is a record of the changelog."""
KEY_LETTERS_MAX: Final = 1_000
TEXT_LETTERS_MAX: Final = 1_000
"""Of one text in a value."""
_SAFE_LETTERS: Final = NOTE_BYTES_MAX // 6 - 2
"""JSON takes at most six bytes for one, and two quotes."""
_SEQUENCES: Final = frozenset((list, tuple))
_NUMBERS: Final = frozenset((int, float))
_LARGEST: Final = 2**62
"""JSON readers take integers of 64 bits."""
_encode: Final = msgspec.json.Encoder().encode


class Seen(NamedTuple):
    """What the state is for a request: when it came, in seconds since 1970, and its unit's values. Not to be changed."""

    at: float
    values: Values


UNSEEN: Final = Seen(0.0, NOTHING)
"""Of a request without a unit, or with one of which nothing is known."""


class Told(NamedTuple):
    """A label that feedback gave to a decision."""

    decision_id: str
    label: str
    at: float
    """When the feedback came, in seconds since 1970."""


class Learned(NamedTuple):
    """What a label changes: values without their moment (None takes one away), and the note in the place of the old one."""

    values: Mapping[str, Sequence[Scalar] | None]
    note: Any | None


class Note(NamedTuple):
    """What a decision left behind."""

    at: float
    unit: str
    content: Any
    """Anything that JSON has."""


def check_note(content: Any) -> None:
    """Raises ValueError where something could not be kept of a decision: one such record would halt its partition."""
    if type(content) is str and len(content) <= _SAFE_LETTERS:
        return
    try:
        size = len(_encode(content))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        msg = f"note cannot be written as JSON: {error}"
        raise ValueError(msg) from error
    if size > NOTE_BYTES_MAX:
        msg = f"note has {size} bytes, {NOTE_BYTES_MAX} are allowed"
        raise ValueError(msg)


def _are_plain(values: Collection[Sequence[Scalar]]) -> bool:
    """Whether all hold finite numbers only that JSON readers take. Said of many at once, for every label asks."""
    if not _SEQUENCES.issuperset(map(type, values)):
        return False
    numbers = list(chain.from_iterable(values))
    return _NUMBERS.issuperset(map(type, numbers)) and sum(map(abs, numbers)) < _LARGEST  # type: ignore[arg-type]


def _is_plain(value: Sequence[Scalar]) -> bool:
    """Whether it holds such numbers, and texts that are not too long."""
    return isinstance(value, (list, tuple)) and all(
        len(each) <= TEXT_LETTERS_MAX
        if type(each) is str
        else type(each) in _NUMBERS and -_LARGEST < each < _LARGEST
        for each in value
    )


def check_learned(learned: Learned) -> None:
    """Raises ValueError where something could not be kept of what a label changes."""
    values = learned.values
    if len(values) > CHANGED_VALUES_MAX:
        msg = f"changes {len(values)} values, {CHANGED_VALUES_MAX} are allowed"
        raise ValueError(msg)
    for key in values:
        if type(key) is not str or not 0 < len(key) <= KEY_LETTERS_MAX:
            msg = f"key {key!r} must be a text of 1 to {KEY_LETTERS_MAX} letters"
            raise ValueError(msg)
    if not _are_plain(values.values()):  # type: ignore[arg-type]
        for value in values.values():
            if value is not None and not _is_plain(value):
                msg = f"value {value!r} must hold finite numbers and texts only"
                raise ValueError(msg)
    check_note(learned.note)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedState:
    """An agent's declaration. All functions are pure.

    With it the agent's ``features`` takes two sequences: inputs, and one `Seen` for each.
    """

    version: str
    """Raise it when what is kept means something else: the state of an older version is not read."""
    note: Callable[[Sequence[Any]], list[Any | None]]
    """What is kept of each input until its label comes; None: nothing."""
    learn: Callable[[Told, Any, Values], Learned]
    """A label, the note of its decision, the values of its unit; called in the order in which feedback came.

    A decision may be labelled again: the note that is returned says what was counted.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one agent's state in one partition; what was changed longest ago goes."""

    values_per_unit: int = 5_000
    units: int = 100_000
    notes: int = 200_000
    ttl_s: float = 400 * DAY_S
    """Of values and notes, from their last change."""


Name: TypeAlias = tuple[str, str, str]
"""``value``, unit and key; or ``note``, an empty text and the decision's id."""


@dataclass(slots=True)
class Units:
    """One agent's state in one partition, as far as it is committed."""

    state: KeyedState
    limits: Limits = field(default_factory=Limits)
    values: dict[str, dict[str, Value]] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)

    def keep(self, changes: Changes) -> None:
        """Changes that were committed."""
        for unit, values in changes.values_of.items():
            self.values.pop(unit, None)
            if values:
                self.values[unit] = values
        for decision_id, note in changes.notes_of.items():
            self.notes.pop(decision_id, None)
            if note is not None:
                self.notes[decision_id] = note

    def load(self, name: Name, content: Any | None) -> None:
        """One record of the changelog, in its order; None: it was taken away."""
        kind, unit, key = name
        if kind == "note":
            self.notes.pop(key, None)
            if content is not None:
                self.notes[key] = Note(*content)
            return
        values = self.values.pop(unit, {})
        values.pop(key, None)
        if content is not None:
            values[key] = tuple(content)
        if values:
            self.values[unit] = values

    def __len__(self) -> int:
        """Entries of both kinds."""
        return sum(map(len, self.values.values())) + len(self.notes)


class Changes:
    """What a batch changes, in order; nothing of it counts before `Units.keep`."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._ttl_s = units.limits.ttl_s
        self.values_of: dict[str, dict[str, Value]] = {}
        """Units that are changed, whole, in the order of their last change; empty: gone."""
        self.notes_of: dict[str, Note | None] = {}
        """Notes that are changed, in the same order; None: gone."""
        self._changed: dict[str, dict[str, None]] = {}
        """By unit, the keys of it that are changed or gone."""
        self._older_units = iter(units.values)
        self._oldest = iter(units.notes)
        self._front = next(self._oldest, None)
        self._more_notes = 0
        self._more_units = 0

    def seen(self, unit: str | None, at: float) -> Seen:
        """What a request of a unit sees; holds until the next label is learned."""
        return Seen(at, NOTHING if unit is None else self._values(unit, at))

    def note(self, unit: str, decision_id: str, content: Any, at: float) -> None:
        """Keep something of a decision until it is labelled."""
        self._put_note(decision_id, Note(at, unit, content))
        horizon = at - self._ttl_s
        while (first := self._first_note()) is not None and (
            len(self._units.notes) + self._more_notes > self._units.limits.notes or first[1].at < horizon
        ):
            self._put_note(first[0], None)

    def learn(self, told: Told) -> bool:
        """A label. False where nothing is known of its decision, or no longer.

        Raises what the agent raises, and ValueError for what cannot be kept; then nothing is changed.
        """
        note = self._note(told.decision_id)
        if note is None or note.at < told.at - self._ttl_s:
            return False
        unit = note.unit
        learned = self._units.state.learn(told, note.content, self._values(unit, told.at))
        check_learned(learned)
        if learned.values:
            self._change(unit, told.at, learned.values)
        self._put_note(told.decision_id, None if learned.note is None else Note(told.at, unit, learned.note))
        return True

    def records(self) -> Iterator[tuple[Name, Any | None]]:
        """What is to be written; None: taken away. Units, their values and notes each in the order of their last change."""
        for unit, values in self.values_of.items():
            changed = self._changed[unit]
            for key in changed:
                if key not in values:
                    yield ("value", unit, key), None
            # Whatever is changed goes to the end, so that is where it stands.
            live = [key for key in islice(reversed(values), len(changed)) if key in changed]
            for key in reversed(live):
                yield ("value", unit, key), values[key]
        for decision_id, note in self.notes_of.items():
            yield ("note", "", decision_id), note

    # -- values ----------------------------------------------------------------------------------

    def _values(self, unit: str, at: float) -> Values:
        found = self.values_of.get(unit)
        if found is None:
            found = self._units.values.get(unit)
        if not found:
            return NOTHING
        horizon = at - self._ttl_s
        if next(iter(found.values()))[0] < horizon:  # type: ignore[operator]
            if unit in self.values_of:  # an earlier request of this batch may see it, and goes on doing so
                self.values_of[unit] = dict(found)
            old = takewhile(lambda item: item[1][0] < horizon, found.items())  # type: ignore[operator]
            self._change(unit, at, dict.fromkeys([key for key, _ in old]))
            return self.values_of[unit]
        return found

    def _change(self, unit: str, at: float, changes: Mapping[str, Sequence[Scalar] | None]) -> None:
        values = self.values_of.pop(unit, None)
        if values is None:
            values = dict(self._units.values.get(unit, NOTHING))
        known = bool(values)
        if values:
            # A label that says to be older than those before it is as old as they, else it would make what it changes old.
            newest: Any = values[next(reversed(values))][0]
            at = max(at, newest)
        changed = self._changed.setdefault(unit, {})
        for key, value in changes.items():
            values.pop(key, None)
            changed[key] = None
            if value is not None:
                values[key] = (at, *value)
        while len(values) > self._units.limits.values_per_unit:
            oldest = next(iter(values))
            del values[oldest]
            changed[oldest] = None
        if values:
            # A unit stands where its last change was. Where that took something away its record goes, in time, and
            # the newest of what is left says it in its place.
            changed[next(reversed(values))] = None
        self.values_of[unit] = values
        self._more_units += bool(values) - known
        while len(self._units.values) + self._more_units > self._units.limits.units:
            self._drop(self._first_unit())

    def _first_unit(self) -> str:
        """That which was changed longest ago; the caller drops it, so none is looked at twice."""
        for unit in self._older_units:
            if unit not in self.values_of:
                return unit
        return next(unit for unit, values in self.values_of.items() if values)

    def _drop(self, unit: str) -> None:
        values = self.values_of.pop(unit, None) or self._units.values[unit]
        self._changed.setdefault(unit, {}).update(dict.fromkeys(values))
        self.values_of[unit] = {}
        self._more_units -= 1

    # -- notes -----------------------------------------------------------------------------------

    def _note(self, decision_id: str) -> Note | None:
        if decision_id in self.notes_of:
            return self.notes_of[decision_id]
        return self._units.notes.get(decision_id)

    def _put_note(self, decision_id: str, note: Note | None) -> None:
        known = self._note(decision_id) is not None
        self.notes_of.pop(decision_id, None)
        self.notes_of[decision_id] = note
        self._more_notes += (note is not None) - known

    def _first_note(self) -> tuple[str, Note] | None:
        """That which was changed longest ago."""
        while self._front is not None and self._front in self.notes_of:
            self._front = next(self._oldest, None)
        if self._front is not None:
            return self._front, self._units.notes[self._front]
        return next(((key, note) for key, note in self.notes_of.items() if note is not None), None)
