"""What a partition's state makes of records: once each, also where batches come again; and what no agent can use is passed over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.state import KeyedState, Learned, Limits, Told, Values
from pointsman.streams.output import Record
from pointsman.streams.state.changelog import Pair
from pointsman.streams.state.partition import PartitionState
from tests.support.rememberer import AGENT


def learn(told: Told, content: Any, values: Values) -> Learned:
    """Counts every time that it is told, also the same again."""
    _, count = values.get("told", (0.0, 0))
    return Learned({"told": (int(count) + 1,)}, content)


COUNTER = replace(
    AGENT, state=KeyedState(version="1", note=lambda inputs: [None for _ in inputs], learn=learn)
)


def state(*, at_least_once: bool = True) -> PartitionState:
    return PartitionState({COUNTER.name: COUNTER}, Limits(), at_least_once=at_least_once)


def told(offset: int, **changes: Any) -> Record:
    event = {
        "id": f"e-{offset}", "decision_id": "d", "agent": COUNTER.name, "unit": "u", "label": "good",
        "observed_at": "2026-11-01T00:00:00Z",
    } | changes  # fmt: skip
    return Record("feedback", 0, offset, 1_000 * offset, 0, b"u", json.dumps(event).encode(), ())


def count(of: PartitionState) -> Any:
    return of.units[COUNTER.name].values.get("u", {}).get("told", (0, 0))[1]


def batch(of: PartitionState, records: Sequence[Record]) -> list[Pair]:
    """Learn and keep; what was written."""
    draft = of.begin()
    if not of.units[COUNTER.name].notes and (changes := draft.of(COUNTER.name)) is not None:
        changes.note("u", "d", ["a"], 0.0)
    for record in records:
        draft.learn(record)
    written = [(key or b"", value) for key, value, _ in draft.messages()]
    of.keep(draft, None)
    return written


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 8)), max_size=12))
def test_where_batches_come_again_each_label_counts_once(batches: list[tuple[int, int]]) -> None:
    """Of each batch: its size, and by how many records the next one goes back, as after a crash before its commit."""
    log: list[Pair] = []
    current, at, highest = state(), 0, 0
    for size, back in batches:
        log += batch(current, [told(offset) for offset in range(at, at + size)])
        highest = max(highest, at + size)
        assert count(current) == highest
        at = at + size - min(back, at + size)
        if back:  # it begins anew from what was written
            current = state()
            for pair in log:
                current.load(*pair)
            assert count(current) == highest


def test_where_nothing_comes_again_nothing_is_noted_down_of_it() -> None:
    once = state(at_least_once=False)
    written = batch(once, [told(0), told(1)])
    assert count(once) == 2
    assert not any(b"applied" in key for key, _ in written)


def test_feedback_that_cannot_be_learned_from_changes_nothing() -> None:
    of = state()
    batch(of, [
        Record("feedback", 0, 0, 0, 0, b"u", b"{", ()),
        told(1, label=None, rating=3),
        told(2, agent="another"),
        told(3, decision_id="unknown"),
    ])  # fmt: skip
    assert count(of) == 0
