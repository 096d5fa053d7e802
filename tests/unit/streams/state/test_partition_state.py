"""What a partition's state makes of records: once each, also where batches come again; and what no agent can use is passed over."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.state import KeyedState, Learned, Limits, Told, Values
from pointsman.streams import metrics
from pointsman.streams.decisions.draft import Draft
from pointsman.streams.decisions.lane import _state
from pointsman.streams.output import Output, Record
from pointsman.streams.settings import load
from pointsman.streams.state.changelog import Pair
from pointsman.streams.state.partition import PartitionState, StateDraft
from pointsman.streams.topics import Names
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
    assert draft.touched <= {"u"}
    written = [(key or b"", value) for key, value, _ in draft.messages()]
    of.keep(draft, None)
    return written


def leave_note(draft: StateDraft, record: Record, decision_id: str, *, waited: bool = False) -> None:
    """As a batch does that decides one request of unit u."""
    asked = SimpleNamespace(record=record, request=SimpleNamespace(unit="u", id=decision_id))
    prepared: Any = SimpleNamespace(
        part=SimpleNamespace(waited=waited),
        runtime=SimpleNamespace(agent=COUNTER),
        computed=SimpleNamespace(requests=[asked], notes=["n"]),
    )
    Draft(output=Output(), positions={}, even={}, ledgers={}, state=draft, reads=True).keep_notes([prepared])


def sent(record: Record, at_ms: int) -> Record:
    return msgspec.structs.replace(record, timestamp=at_ms)


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


@pytest.mark.parametrize("at_ms", [-1, 253_402_300_000_000, 1_700_000_000_000_000_000])
def test_a_record_from_another_century_makes_nothing_old(at_ms: int) -> None:
    """Without a time, from the year 9999, and in nanoseconds."""
    of = state(at_least_once=False)
    now = time.time()
    draft = of.begin()
    changes = draft.of(COUNTER.name)
    assert changes is not None
    changes.note("u", "d", ["a"], now)
    draft.learn(sent(told(0), int(now * 1000)))
    of.keep(draft, None)
    later = of.begin()
    later.learn(sent(told(1), at_ms))
    leave_note(later, sent(told(2), at_ms), "later")
    of.keep(later, None)
    again = of.begin()
    again.learn(sent(told(3), int(now * 1000)))
    of.keep(again, None)
    assert count(of) == 3
    units = of.units[COUNTER.name]
    times = [note.at for note in units.notes.values()] + [units.values["u"]["told"][0]]
    assert len(times) == 3
    assert all(abs(float(each) - now) < 60 for each in times)


def test_labels_are_counted_once_they_are_committed() -> None:
    def counted() -> list[float]:
        return [
            metrics.STATE_LABELS.labels(COUNTER.name, each)._value.get() for each in ("learned", "unknown")
        ]

    of, before = state(), counted()
    lost = of.begin()
    lost.learn(told(0))
    assert counted() == before
    batch(of, [told(0), told(1), told(2, decision_id="another")])
    assert counted() == [before[0] + 2, before[1] + 1]


@pytest.mark.parametrize("waited", [False, True])
def test_where_records_come_again_a_request_that_waited_for_another_attempt_leaves_its_note(
    waited: bool,
) -> None:
    of = state()
    of.applied = {"requests": 51}  # others that came behind it were decided while it waited
    draft = of.begin()
    leave_note(draft, Record("requests", 0, 10, 0, 0, b"u", b"{}", ()), "d", waited=waited)
    of.keep(draft, None)
    assert ("d" in of.units[COUNTER.name].notes) is waited
    assert draft.touched == {"u"}


@pytest.mark.parametrize("value", [b'{"at":1,"content":5}', b'{"at":1,"content":{"a":1}}', b"[]", b"x"])
def test_a_record_of_somebody_elses_does_not_keep_a_partition_from_being_restored(value: bytes) -> None:
    of = state()
    (key,) = [key for key, _ in batch(of, [told(0)]) if b"value" in key]
    of.load(key, value)
    of.load(b'["","","applied","",""]', value)
    assert count(of) == 1


def test_another_set_of_agents_has_a_snapshot_of_its_own(tmp_path: Path) -> None:
    """A file lacks what was not loaded when it was written anew."""
    names = Names()
    lane: Any = SimpleNamespace(
        settings=load({"data_dir": str(tmp_path)}, {}).settings,
        watch=SimpleNamespace(known={names.state: SimpleNamespace(id="topic")}),
    )
    newer = replace(COUNTER, state=replace(COUNTER.state, version="2"))  # type: ignore[type-var]
    other = replace(COUNTER, name="other")
    sets = [{"a": COUNTER}, {"a": newer}, {"a": COUNTER, "other": other}]
    paths = {_state(lane, names, agents, 0, transactional=True).snapshot.path for agents in sets}  # type: ignore[union-attr]
    again = _state(lane, names, {"other": other, "a": COUNTER}, 0, transactional=True)
    assert len(paths) == 3
    assert again.snapshot is not None
    assert again.snapshot.path in paths
