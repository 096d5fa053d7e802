"""When a record of a delay topic may be taken: never early by its own clock, never later than its delay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.due import Due
from tests.builders import record


class Clocks:
    """A steady clock and a wall clock that are moved by hand."""

    def __init__(self) -> None:
        self.steady_s = 100.0
        self.wall_s = 1_790_000_000.0

    def pass_(self, seconds: float) -> None:
        self.steady_s += seconds
        self.wall_s += seconds

    def due(self, delay_s: float) -> Due:
        return Due(delay_s, lambda: self.steady_s, lambda: self.wall_s)

    def written(self, ago_s: float = 0.0) -> int:
        """The time of a record written so long ago, in milliseconds."""
        return round((self.wall_s - ago_s) * 1000)


def test_a_record_is_due_its_delay_after_its_time() -> None:
    clocks = Clocks()
    due = clocks.due(5)
    due.offered([record(b"x", timestamp=clocks.written(ago)) for ago in (4, 1, 0)])
    assert (due.ready(), due.left(), due.holds()) == (0, pytest.approx(1), True)
    clocks.pass_(1.01)
    assert due.ready() == 1
    due.took(1)
    assert due.left() == pytest.approx(2.99)
    clocks.pass_(4)
    assert (due.ready(), due.left(), due.holds()) == (2, 0, False)
    due.clear()
    assert (due.ready(), due.left(), due.holds()) == (0, None, False)


def test_what_was_long_ago_is_due_at_once() -> None:
    clocks = Clocks()
    due = clocks.due(5)
    due.offered([record(b"x", timestamp=clocks.written(3_600))])
    assert due.ready() == 1


@pytest.mark.parametrize("timestamp", [-1, 0, 1_790_000_000_000 * 2])
def test_a_record_without_a_time_or_from_the_future_waits_its_delay_and_no_longer(timestamp: int) -> None:
    clocks = Clocks()
    due = clocks.due(5)
    due.offered([record(b"x", timestamp=timestamp)])
    assert due.left() == pytest.approx(5)
    clocks.pass_(5)
    assert due.ready() == 1


@given(st.floats(-1e6, 1e6), st.floats(0, 30), st.floats(0.001, 30))
def test_a_wall_clock_that_jumps_while_a_record_waits_changes_nothing(
    jump_s: float, ago_s: float, delay_s: float
) -> None:
    clocks = Clocks()
    due = clocks.due(delay_s)
    due.offered([record(b"x", timestamp=clocks.written(ago_s))])
    before = due.left()
    clocks.wall_s += jump_s
    assert due.left() == before
    assert before is not None
    assert 0 <= before <= delay_s + 1e-6, "but for rounding"


def test_a_record_is_not_taken_before_one_that_lies_before_it() -> None:
    clocks = Clocks()
    due = clocks.due(5)
    due.offered([record(b"x", timestamp=clocks.written(0)), record(b"x", timestamp=clocks.written(9))])
    assert due.ready() == 0
    clocks.pass_(5.1)
    assert due.ready() == 2


@pytest.mark.parametrize(("jump_s", "left_s"), [(3_600, 0), (2, 1), (0, 3), (-1, 4), (-3_600, 5)])
def test_what_is_read_anew_waits_by_the_clock_of_then_and_never_longer_than_its_delay(
    jump_s: float, left_s: float
) -> None:
    clocks = Clocks()
    waits = [record(b"x", timestamp=clocks.written(2))]
    before = clocks.due(5)
    before.offered(waits)
    assert before.left() == pytest.approx(3)
    clocks.wall_s += jump_s
    after = clocks.due(5)  # of a worker that was started again, or took the partition over
    after.offered(waits)
    assert after.left() == pytest.approx(left_s)
