"""Pacing: whatever happens in whatever order, no more is on its way than a forgetful broker keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pointsman.streams.demo.pace import OUTCOME_EXTRA, Pace

OUT = "outcomes"
PARTITIONS = 3
BYTES = 40_000


class Pacing(RuleBasedStateMachine):
    """A broker with partitions that keep few bytes, asked before each message as the demo asks."""

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace(in_flight=5, bytes_max=BYTES)
        self.number = 0
        self.waiting: dict[str, tuple[int, int]] = {}
        self.log: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.stored = [0] * PARTITIONS

    @rule(partition=st.integers(0, PARTITIONS - 1), size=st.integers(1, 2 * BYTES))
    def send(self, partition: int, size: int) -> None:
        if self.pace.room(partition, size, OUT):
            self.number += 1
            self.pace.sent(str(self.number), partition, size)
            self.waiting[str(self.number)] = (partition, size)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.waiting)))
        partition, size = self.waiting.pop(id_)
        self.pace.written((OUT, partition), len(self.log[partition]), size + OUTCOME_EXTRA)
        self.log[partition].append(size + OUTCOME_EXTRA)
        assert self.pace.answered(id_)
        assert not self.pace.answered(id_)

    @rule(partition=st.integers(0, PARTITIONS - 1), data=st.data())
    def store(self, partition: int, data: st.DataObject) -> None:
        at = data.draw(st.integers(self.stored[partition], len(self.log[partition])))
        self.stored[partition] = at
        self.pace.stored((OUT, partition), at)

    @invariant()
    def what_is_unread_is_what_was_written_and_not_stored(self) -> None:
        for partition in range(PARTITIONS):
            assert self.pace.unread((OUT, partition)) == sum(self.log[partition][self.stored[partition] :])
        assert self.pace.waiting == len(self.waiting) <= 5

    @invariant()
    def no_partition_holds_more_than_it_keeps(self) -> None:
        """But for one message alone, which must get through however large it is."""
        for partition in range(PARTITIONS):
            coming = [size + OUTCOME_EXTRA for where, size in self.waiting.values() if where == partition]
            unread = self.log[partition][self.stored[partition] :]
            assert sum(coming) + sum(unread) <= BYTES or len(coming) + len(unread) == 1

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        """With nothing on its way there is room for anything."""
        if not self.waiting and self.pace.stored_all:
            assert all(self.pace.room(partition, 10**9, OUT) for partition in range(PARTITIONS))


TestPacing = Pacing.TestCase


@given(st.lists(st.integers(0, 50), max_size=20))
def test_positions_that_go_backwards_change_nothing(positions: list[int]) -> None:
    pace = Pace()
    for offset in range(40):
        pace.written((OUT, 0), offset, 1)
    for position in positions:
        pace.stored((OUT, 0), position)
    assert pace.unread((OUT, 0)) == 40 - min(40, max(positions, default=0))


def test_what_was_stored_before_it_was_seen_does_not_count() -> None:
    pace = Pace()
    pace.stored((OUT, 0), 5)
    pace.written((OUT, 0), 4, 100)
    assert pace.stored_all
    pace.written((OUT, 0), 5, 100)
    assert pace.unread((OUT, 0)) == 100


def test_an_outcome_that_nobody_waits_for_is_told_apart() -> None:
    assert not Pace().answered("foreign")


@pytest.mark.parametrize("wrong", [{"in_flight": 0}, {"bytes_max": 0}])
def test_a_pace_that_could_never_send_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Pace(**wrong)
