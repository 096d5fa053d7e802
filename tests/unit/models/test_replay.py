"""The replay: labels count from where they stand, and batches change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.agent import Agent
from pointsman.models.decider import Row
from pointsman.models.replay import Asked, Event, replay
from pointsman.models.state import KeyedState, Learned, Seen, Told, Units, Values
from tests.unit.models.test_conformance_of_state import Rules


class Input(msgspec.Struct):
    key: str


def features(inputs: Sequence[Input], seen: Sequence[Seen]) -> list[Row]:
    """How many labels the key has, how many of them said yes, and when it came."""
    return [
        (*(float(number) for number in values.get(one.key, (0, 0, 0))[1:]), at)  # type: ignore[misc]
        for one, (at, values) in zip(inputs, seen, strict=True)
    ]


def note(inputs: Sequence[Input]) -> list[Any]:
    return [one.key for one in inputs]


def learn(told: Told, key: Any, values: Values) -> Learned:
    _, labels, yes = values.get(key, (0, 0, 0))
    return Learned({key: (int(labels) + 1, int(yes) + (told.label == "yes"))}, None)


AGENT = Agent(
    name="example",
    input_type=Input,
    feature_names=("labels", "yes", "at"),
    feature_version="1",
    features=features,
    predictions=("no", "yes"),
    rules=Rules(),
    state=KeyedState(version="1", note=note, learn=learn),
)


def asked(decision_id: str, unit: str | None = "u", key: str = "a", at: float = 0.0) -> Asked:
    return Asked(decision_id, unit, at, Input(key=key))


def rows(events: Sequence[Event], **options: Any) -> dict[str, Row]:
    return dict(replay(AGENT, events, **options))


def test_a_label_counts_for_what_comes_after_it() -> None:
    events = [
        asked("1"),
        asked("2"),
        Told("1", "yes", 1.0),
        asked("3", at=2.0),
        Told("2", "no", 3.0),
        asked("4"),
    ]
    assert rows(events) == {"1": (0, 0, 0.0), "2": (0, 0, 0.0), "3": (1, 1, 2.0), "4": (2, 1, 0.0)}


def test_units_and_keys_are_apart_and_no_unit_has_no_past() -> None:
    events = [
        asked("1"),
        Told("1", "yes", 1.0),
        asked("2", unit="v"),
        asked("3", key="b"),
        asked("4", unit=None),
    ]
    assert {row[:2] for name, row in rows(events).items() if name != "1"} == {(0, 0)}
    assert rows([asked("1", unit=None), Told("1", "yes", 1.0), asked("2")])["2"][:2] == (0, 0)


def test_it_goes_on_from_a_state() -> None:
    units = Units(AGENT.state)  # type: ignore[arg-type]
    rows([asked("1"), Told("1", "yes", 1.0)], units=units)
    assert rows([asked("2")], units=units)["2"] == (1, 1, 0.0)


def test_an_agent_without_state_is_asked_without_one() -> None:
    import dataclasses

    plain = dataclasses.replace(AGENT, state=None, features=lambda inputs: [(1, 1, 1) for _ in inputs])
    assert [row for _, row in replay(plain, [asked("1"), Told("1", "yes", 1.0)])] == [(1, 1, 1)]


events_of = st.lists(
    st.tuples(st.sampled_from("uv"), st.sampled_from("abc"))
    | st.tuples(st.integers(0, 9), st.sampled_from(["yes", "no"])),
    max_size=50,
)


def sequence(drawn: list[tuple[Any, str]]) -> list[Event]:
    found: list[Event] = []
    count = 0
    for place, (what, rest) in enumerate(drawn):
        if isinstance(what, int):
            found.append(Told(f"{count - 1 - what}", rest, float(place)))
        else:
            found.append(asked(f"{count}", what, rest, float(place)))
            count += 1
    return found


@given(events_of, st.integers(1, 20))
def test_batches_change_nothing(drawn: list[tuple[Any, str]], batch: int) -> None:
    events = sequence(drawn)
    assert rows(events, batch=batch) == rows(events)


@given(events_of, events_of, st.data())
def test_what_comes_later_changes_nothing_before(
    drawn: list[tuple[Any, str]], later: list[tuple[Any, str]], data: st.DataObject
) -> None:
    before = rows(sequence(drawn))
    after = rows(sequence(drawn + data.draw(st.permutations(later))))
    assert {name: after[name] for name in before} == before
