"""The open loop's arithmetic: what is due when, and that a pause of the server cannot hide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.schedule import Schedule, Times, Unanswered, latencies, spread

SCHEDULES = st.builds(
    Schedule,
    start_s=st.floats(0, 1e6),
    rate=st.floats(0.1, 100_000),
    count=st.integers(1, 2_000),
)


def answered(sent: Times, *, takes_s: float, stall: tuple[float, float] = (0.0, 0.0)) -> Times:
    """When a server that answers one request after another, and none while it stalls, has answered each."""
    done, free = np.empty(len(sent)), 0.0
    for number, at in enumerate(sent):
        begins = max(at, free)
        if stall[0] <= begins < stall[1]:
            begins = stall[1]
        free = done[number] = begins + takes_s
    return done


@given(SCHEDULES, st.floats(-10, 1e6), st.floats(0, 10))
def test_what_is_due_depends_on_the_clock_alone_and_never_shrinks(
    schedule: Schedule, before: float, later: float
) -> None:
    at = schedule.start_s + before

    assert 0 <= schedule.due(at) <= schedule.due(at + later) <= schedule.count
    assert schedule.due(schedule.start_s - 1) == 0
    assert schedule.due(schedule.end_s + 2 / schedule.rate) == schedule.count


@given(SCHEDULES, st.data())
def test_a_request_is_due_at_its_time(schedule: Schedule, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, schedule.count - 1))
    half = 0.5 / schedule.rate

    assert schedule.due(schedule.times()[number] + half) == number + 1
    assert schedule.due(schedule.times()[number] - half) == number


def test_a_pause_of_the_server_is_charged_to_all_that_were_due_in_it() -> None:
    schedule = Schedule(start_s=100.0, rate=1_000, count=10_000)
    seen = answered(schedule.times(), takes_s=0.000_1, stall=(105.0, 106.0))

    found = latencies(schedule, seen)

    # A tenth of the requests were due while nothing was answered: they waited up to the whole second.
    assert found.greatest == pytest.approx(1_000, rel=0.01)
    assert found.p99 > 900
    assert found.p95 > 400
    assert found.p50 < 1


def test_a_generator_that_waits_for_answers_hides_the_pause_from_itself_but_not_from_the_schedule() -> None:
    """The negative control: the same server behind a closed loop, as measured from the sending and from the schedule."""
    schedule = Schedule(start_s=100.0, rate=1_000, count=10_000)
    sent, done, free = np.empty(10_000), np.empty(10_000), 0.0
    for number, due in enumerate(schedule.times()):
        sent[number] = max(due, free)  # not before the answer to the one before
        free = done[number] = answered(sent[number : number + 1], takes_s=0.000_1, stall=(105.0, 106.0))[0]

    from_sending, from_schedule = spread((done - sent) * 1000), latencies(schedule, done)

    assert from_sending.p99 < 1, "one request out of 10,000 met the pause: coordinated omission"
    assert from_schedule.p99 > 900


def test_a_late_generator_makes_latencies_longer_never_shorter() -> None:
    schedule = Schedule(start_s=0.0, rate=100, count=500)
    in_time = answered(schedule.times(), takes_s=0.001)
    late = answered(schedule.times() + 0.25, takes_s=0.001)

    assert latencies(schedule, late).p50 == pytest.approx(latencies(schedule, in_time).p50 + 250)


def test_a_request_without_outcome_is_no_percentile_but_an_error() -> None:
    schedule = Schedule(start_s=0.0, rate=10, count=100)
    seen = schedule.times() + 0.01
    seen[7] = np.nan

    with pytest.raises(Unanswered, match="1 of 100"):
        latencies(schedule, seen)


def test_the_warm_up_is_left_out_by_when_requests_were_due() -> None:
    schedule = Schedule(start_s=5.0, rate=10, count=100)
    seen = schedule.times() + np.where(np.arange(100) < 30, 9.0, 0.01)

    found = latencies(schedule, seen, warm_up_s=2.95)

    assert found.count == 70
    assert found.greatest == pytest.approx(10)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_percentiles_are_latencies_that_somebody_had(values: list[float]) -> None:
    found = spread(np.array(values))

    for share, value in ((0.50, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert value in values
        assert sum(each <= value for each in values) >= share * len(values) - 1e-6
        assert sum(each < value for each in values) < share * len(values)
    assert found.greatest == max(values)


def test_percentiles_of_a_hundred() -> None:
    found = spread(np.arange(1, 101, dtype=float))

    assert (found.p50, found.p95, found.p99, found.greatest) == (50, 95, 99, 100)


def test_no_latencies_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no latencies"):
        spread(np.empty(0))
