"""Keyed state: bounds, expiry, and that neither batches nor a restore change anything."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.models.state import (
    KEY_LETTERS_MAX,
    NOTE_BYTES_MAX,
    NOTHING,
    TEXT_LETTERS_MAX,
    UNSEEN,
    Changes,
    KeyedState,
    Learned,
    Limits,
    Name,
    Told,
    Units,
    Values,
)


def learn(told: Told, note: Any, values: Values) -> Learned:
    """Counts labels by the note's keys; ``forget`` takes the keys away, ``done`` the note."""
    if told.label == "forget":
        return Learned(dict.fromkeys(note), note)
    counted = {key: (int(values[key][1]) + 1 if key in values else 1, told.label) for key in note}
    return Learned(counted, None if told.label == "done" else note)


STATE = KeyedState(version="1", note=list, learn=learn)
Operation = tuple[str, str, str, float]
"""``ask``, unit, keys and how much later; or ``tell``, place of the decision, label, how much later."""
TIGHT = Limits(values_per_unit=3, units=3, notes=4, ttl_s=20.0)

asks = st.tuples(st.just("ask"), st.sampled_from("UVWXY"), st.text("abcde", max_size=4), st.floats(0, 9))
tells = st.tuples(
    st.just("tell"),
    st.integers(0, 9).map(str),
    st.sampled_from(["yes", "no", "done", "forget"]),
    st.floats(0, 9),
)
sequences = st.lists(asks | tells, max_size=40)


class World:
    """A state that goes through a sequence, with what features saw and what was written."""

    def __init__(self, limits: Limits = TIGHT) -> None:
        self.units = Units(STATE, limits)
        self.seen: list[tuple[float, list[Any]]] = []
        self.log: list[tuple[Name, Any]] = []
        self._now = 0.0
        self._asked: list[str] = []

    def run(self, operations: Sequence[Operation], cuts: frozenset[int]) -> World:
        """One batch up to each cut."""
        changes = Changes(self.units)
        for place, operation in enumerate(operations):
            if place in cuts:
                self._keep(changes)
                changes = Changes(self.units)
            self._do(changes, operation)
        self._keep(changes)
        return self

    def _do(self, changes: Changes, operation: Operation) -> None:
        kind, what, rest, later = operation
        self._now += later
        if kind == "tell":
            if self._asked:
                decision = self._asked[-1 - int(what) % len(self._asked)]
                changes.learn(Told(decision, rest, self._now))
            return
        at, values = changes.seen(what, self._now)
        self.seen.append((at, list(values.items())))
        decision = f"d{len(self._asked)}"
        self._asked.append(decision)
        changes.note(what, decision, sorted(set(rest)), self._now)

    def _keep(self, changes: Changes) -> None:
        self.log += [
            (name, msgspec.json.decode(msgspec.json.encode(content))) for name, content in changes.records()
        ]
        self.units.keep(changes)

    def restored(self, log: Sequence[tuple[Name, Any]]) -> World:
        """Another one that starts from records."""
        other = copy.copy(self)
        other.units = Units(STATE, self.units.limits)
        other._asked = list(self._asked)
        other.seen, other.log = [], []
        for name, content in log:
            other.units.load(name, content)
        return other


def ordered(units: Units) -> Any:
    """All that is kept, with its order."""
    return (
        [(unit, list(values.items())) for unit, values in units.values.items()],
        list(units.notes.items()),
    )


def compacted(log: Sequence[tuple[Name, Any]]) -> list[tuple[Name, Any]]:
    """The last record of each name, where it stands."""
    last = {name: place for place, (name, _) in enumerate(log)}
    return [record for place, record in enumerate(log) if last[record[0]] == place]


@settings(max_examples=300)
@given(sequences, st.frozensets(st.integers(0, 40)))
def test_batches_change_nothing(operations: list[Operation], cuts: frozenset[int]) -> None:
    whole, cut = World().run(operations, frozenset()), World().run(operations, cuts)
    assert cut.seen == whole.seen
    assert ordered(cut.units) == ordered(whole.units)


@settings(max_examples=300)
@given(sequences, st.frozensets(st.integers(0, 40)), sequences)
def test_a_state_from_its_records_is_equal_and_goes_on_alike(
    operations: list[Operation], cuts: frozenset[int], later: list[Operation]
) -> None:
    world = World().run(operations, cuts)
    last = compacted(world.log)
    others = [
        world.restored(log)
        for log in (
            world.log,
            last,
            [record for record in last if record[1] is not None],
        )  # tombstones go too
    ]
    for other in others:
        assert ordered(other.units) == ordered(world.units)
    world.seen, world.log = [], []
    for other in others:
        other.run(later, cuts)
    world.run(later, cuts)
    for other in others:
        assert other.seen == world.seen
        assert other.log == world.log
        assert ordered(other.units) == ordered(world.units)


@settings(max_examples=200)
@given(sequences, st.frozensets(st.integers(0, 40)))
def test_bounds_hold_after_every_batch(operations: list[Operation], cuts: frozenset[int]) -> None:
    units = World().run(operations, cuts).units
    assert len(units.values) <= TIGHT.units
    assert all(0 < len(values) <= TIGHT.values_per_unit for values in units.values.values())
    assert len(units.notes) <= TIGHT.notes
    assert len(units) == sum(map(len, units.values.values())) + len(units.notes)


@settings(max_examples=200)
@given(sequences, st.frozensets(st.integers(0, 40)))
def test_nothing_that_is_seen_is_older_than_its_time_to_live(
    operations: list[Operation], cuts: frozenset[int]
) -> None:
    for at, values in World().run(operations, cuts).seen:
        assert all(value[0] >= at - TIGHT.ttl_s for _, value in values)


def kept(changes: Changes, units: Units) -> Units:
    units.keep(changes)
    return units


def test_nothing_counts_before_it_is_kept() -> None:
    units = Units(STATE)
    changes = Changes(units)
    changes.note("u", "d", ["a"], 1.0)
    assert changes.learn(Told("d", "yes", 2.0))
    assert changes.seen("u", 3.0).values == {"a": (2.0, 1, "yes")}
    assert Changes(units).seen("u", 3.0).values == NOTHING
    assert Changes(kept(changes, units)).seen("u", 3.0).values == {"a": (2.0, 1, "yes")}


@pytest.mark.parametrize(
    "learned",
    [
        Learned({"k": (float("inf"),)}, None),
        Learned({"k": (float("nan"), 1)}, None),
        Learned({"k": (2**63,)}, None),
        Learned({"k": (2**70, -(2**70))}, None),
        Learned({"k": (1j,)}, None),
        Learned({"k": (Decimal(1),)}, None),
        Learned({"a": (Fraction(1, 2),), "k": (1.0,)}, None),  # type: ignore[dict-item]
        Learned({"a": array("d", [1.0])}, None),
        Learned({"k": (True,)}, None),
        Learned({"k": (None,)}, None),  # type: ignore[dict-item]
        Learned({"k": 5}, None),  # type: ignore[dict-item]
        Learned({"a": (1,), "k": "text"}, None),
        Learned({"k": ("x" * (TEXT_LETTERS_MAX + 1),)}, None),
        Learned({"k" * (KEY_LETTERS_MAX + 1): (1,)}, None),
        Learned({}, object()),
        Learned({}, "é" * NOTE_BYTES_MAX),
    ],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(learned: Learned) -> None:
    units = Units(KeyedState(version="1", note=list, learn=lambda *_: learned))
    changes = Changes(units)
    changes.note("u", "d", "a", 1.0)
    units.keep(changes)
    changes = Changes(units)
    with pytest.raises(ValueError, match=r"must|note"):
        changes.learn(Told("d", "yes", 2.0))
    assert list(changes.records()) == []


@pytest.mark.parametrize("at", [0.0, 1_790_000.0, 946_684_800.0])
def test_a_label_from_long_ago_makes_nothing_old_that_came_before_it(at: float) -> None:
    now = 1_790_000_000.0
    units = Units(STATE)
    for told_at, decision in ((now, "d"), (at, "e")):
        changes = Changes(units)
        changes.note("u", decision, ["a"], told_at)
        changes.learn(Told(decision, "yes", told_at))
        units.keep(changes)
    assert Changes(units).seen("u", now).values == {"a": (now, 2, "yes")}


def test_a_request_without_a_unit_sees_nothing() -> None:
    assert Changes(Units(STATE)).seen(None, 0.0) == UNSEEN


def test_a_label_of_an_unknown_decision_changes_nothing() -> None:
    changes = Changes(Units(STATE))
    assert not changes.learn(Told("d", "yes", 1.0))
    assert list(changes.records()) == []


def test_a_label_that_comes_too_late_changes_nothing() -> None:
    changes = Changes(Units(STATE, TIGHT))
    changes.note("u", "d", ["a"], 0.0)
    assert not changes.learn(Told("d", "yes", TIGHT.ttl_s + 1))


def test_what_a_request_sees_stays_when_a_later_one_finds_it_too_old() -> None:
    changes = Changes(Units(STATE, TIGHT))
    for place in range(3):
        changes.note("u", f"d{place}", ["abc"[place]], 0.0)
        changes.learn(Told(f"d{place}", "yes", 9.0 * place))
    early = changes.seen("u", 19.0).values
    assert list(early) == ["a", "b", "c"]
    assert list(changes.seen("u", 21.0).values) == ["b", "c"]
    middle = changes.seen("u", 29.0).values
    assert list(changes.seen("u", 30.0).values) == ["c"]
    assert (list(early), list(middle)) == (["a", "b", "c"], ["b", "c"])


def test_the_unit_that_was_changed_longest_ago_goes() -> None:
    units = Units(STATE, TIGHT)
    for batch in ("UVW", "U", "X"):
        changes = Changes(units)
        for unit in batch:
            changes.note(unit, f"{batch}{unit}", ["a"], 1.0)
            changes.learn(Told(f"{batch}{unit}", "yes", 1.0))
        units.keep(changes)
    assert list(units.values) == ["W", "U", "X"]
    assert (("value", "V", "a"), None) in list(changes.records())


def test_a_unit_that_something_was_taken_from_stands_there_when_tombstones_are_gone() -> None:
    world = World()
    tell_newest, tell_first = ("tell", "0", "yes", 1.0), ("tell", "2", "forget", 1.0)
    operations: list[Operation] = [
        ("ask", "U", "a", 0.0), tell_newest, ("ask", "U", "b", 0.0), tell_newest, ("ask", "V", "a", 0.0), tell_newest,
        tell_first,
    ]  # fmt: skip
    world.run(operations, frozenset())
    assert list(world.units.values) == ["V", "U"]
    log = [record for record in compacted(world.log) if record[1] is not None]
    assert ordered(world.restored(log).units) == ordered(world.units)


@pytest.mark.parametrize("seed", range(5))
def test_long_sequences_agree_too(seed: int) -> None:
    random = Random(seed)
    operations: list[Operation] = [
        ("ask", random.choice("UVWXYZ"), "".join(random.sample("abcdefgh", 3)), random.random())
        if random.random() < 0.5
        else ("tell", str(random.randrange(10)), random.choice(["yes", "no", "done"]), random.random())
        for _ in range(2_000)
    ]
    limits = Limits(values_per_unit=5, units=4, notes=6, ttl_s=300.0)
    cuts = frozenset(random.sample(range(2_000), 150))
    whole, cut = World(limits).run(operations, frozenset()), World(limits).run(operations, cuts)
    assert (cut.seen, ordered(cut.units)) == (whole.seen, ordered(whole.units))
    assert ordered(cut.restored(compacted(cut.log)).units) == ordered(whole.units)
