"""What a growth writes: each unit where its key leads, in the order of the last changes, and nothing where nothing moves."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.state import Limits
from pointsman.streams.output import Message
from pointsman.streams.partitioner import by_murmur2
from pointsman.streams.state.changelog import applied
from pointsman.streams.state.move import Held, hold, move
from pointsman.streams.state.partition import PartitionState
from tests.support.rememberer import AGENT

BEFORE, AFTER = 2, 5


def value(unit: str, key: str, at: float, n: int = 1) -> tuple[bytes, bytes]:
    name = json.dumps([AGENT.name, "1", "value", unit, key]).encode()
    return name, json.dumps({"at": at, "content": [n, 0]}).encode()


def note(unit: str, id_: str, at: float) -> tuple[bytes, bytes]:
    name = json.dumps([AGENT.name, "1", "note", "", id_]).encode()
    return name, json.dumps({"at": at, "unit": unit, "content": ["a", ""]}).encode()


def home(unit: str, partitions: int) -> int:
    return by_murmur2(unit.encode(), partitions)


def placed(entries: Sequence[tuple[str, tuple[bytes, bytes]]], partitions: int) -> list[Held]:
    held: list[Held] = [{} for _ in range(AFTER)]
    for unit, pair in entries:
        hold(held[home(unit, partitions)], [pair])
    return held


def written(held: list[Held], messages: dict[int, list[Message]]) -> list[Held]:
    """What the changelogs are afterwards."""
    after = [dict(each) for each in held]
    for number, some in messages.items():
        hold(after[number], ((key, content) for key, content, _ in some))
    return after


def contents(held: Held) -> PartitionState:
    state = PartitionState({AGENT.name: AGENT}, Limits())
    for key, content in held.items():
        state.load(key, content)
    return state


changes = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 3), st.floats(0, 1e9), st.booleans()), max_size=60
)


@given(changes)
def test_everything_lies_where_it_belongs_and_nothing_is_lost_or_moved_twice(
    some: list[tuple[int, int, float, bool]],
) -> None:
    entries = []
    for unit, key, at, is_note in some:
        name = f"unit-{unit}"
        made = note(name, f"d-{unit}-{key}", at) if is_note else value(name, f"k{key}", at)
        entries.append((name, made))
    before = placed(entries, BEFORE)
    found = move(before, BEFORE, AFTER, by_murmur2)
    after = written(before, found.messages)
    wanted = placed(entries, AFTER)
    assert [dict(each) for each in after] == [dict(each) for each in wanted]
    assert not found.strange
    again = move(after, BEFORE, AFTER, by_murmur2)
    assert not again.messages
    assert again.entries == 0


def test_what_a_partition_then_holds_is_in_the_order_of_the_last_changes() -> None:
    units = [f"unit-{n}" for n in range(200)]
    entries = [(unit, value(unit, "k", float(at))) for at, unit in enumerate(units)]
    before = placed(entries, BEFORE)
    after = written(before, move(before, BEFORE, AFTER, by_murmur2).messages)
    for number in range(AFTER):
        mine = [unit for unit in units if home(unit, AFTER) == number]
        assert list(contents(after[number]).units[AGENT.name].values) == mine


def test_a_partitions_own_order_stays_though_its_clock_went_back() -> None:
    (unit,) = [each for n in range(50) if home(each := f"u{n}", AFTER) == 3 and home(each, BEFORE) == 0][:1]
    before = placed(
        [(unit, value(unit, key, at)) for key, at in (("a", 9.0), ("b", 3.0), ("c", 5.0))], BEFORE
    )
    after = written(before, move(before, BEFORE, AFTER, by_murmur2).messages)
    assert list(contents(after[3]).units[AGENT.name].values[unit]) == ["a", "b", "c"]


def test_what_is_a_partitions_own_stays_and_so_does_what_nobody_can_read() -> None:
    key, offsets, _ = applied({"decision-requests": 7})
    assert offsets is not None
    before: list[Held] = [{key: offsets, b"?": b"x"}, {}, {}, {}, {}]
    assert not move(before, BEFORE, AFTER, by_murmur2).messages


def test_a_unit_that_lies_where_no_key_leads_is_named() -> None:
    before: list[Held] = [{} for _ in range(AFTER)]
    (unit,) = [each for n in range(50) if home(each := f"u{n}", BEFORE) == 0 and home(each, AFTER) != 1][:1]
    hold(before[1], [value(unit, "k", 1.0)])
    assert move(before, BEFORE, AFTER, by_murmur2).strange == {unit}


def test_of_a_unit_that_lies_in_two_partitions_the_later_change_counts() -> None:
    (unit,) = [each for n in range(50) if home(each := f"u{n}", BEFORE) == 0 and home(each, AFTER) == 1][:1]
    before: list[Held] = [{} for _ in range(AFTER)]
    hold(before[0], [value(unit, "l", 3.0, 3), value(unit, "k", 5.0, 5)])
    hold(before[1], [value(unit, "k", 2.0, 2), value(unit, "m", 9.0, 9)])
    after = written(before, move(before, BEFORE, AFTER, by_murmur2).messages)
    assert not after[0]
    values = contents(after[1]).units[AGENT.name].values[unit]
    assert list(values.items()) == [("l", (3.0, 3, 0)), ("k", (5.0, 5, 0)), ("m", (9.0, 9, 0))]
