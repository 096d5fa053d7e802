"""The breaker, against a plain description of it, with a clock that is turned by hand."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pointsman.schemas.errors import InvalidSetting
from pointsman.streams.model.breaker import Breaker, BreakerPolicy, State

OPEN_S = 5.0
FIRST_S = 0.7
FAILURES = 3


class BreakerMachine(RuleBasedStateMachine):
    """What the breaker must be, kept beside what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.changes: list[tuple[State, State]] = []
        policy = BreakerPolicy(failures_max=FAILURES, open_s=OPEN_S, open_first_s=FIRST_S)
        self.breaker = Breaker(policy, lambda: self.now, lambda old, new: self.changes.append((old, new)))
        self.expected = State.CLOSED
        self.failures = 0
        self.opened_at = 0.0
        self.closed_at: float | None = None
        self.wait = 0.0

    @rule(seconds=st.floats(0, 10))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_request_succeeds(self) -> None:
        self.breaker.succeeded()
        if self.expected is State.CLOSED:
            self.failures = 0

    @rule(timeout=st.booleans())
    def a_request_fails(self, timeout: bool) -> None:
        self.breaker.failed(timeout=timeout)
        if self.expected is State.CLOSED:
            self.failures += 1
            if timeout or self.failures == FAILURES:
                self._opens()

    @precondition(lambda self: self.expected is State.OPEN)
    @rule()
    def a_probe_begins(self) -> None:
        self.breaker.probe_began()
        self.expected = State.HALF_OPEN

    @precondition(lambda self: self.expected is State.HALF_OPEN)
    @rule(well=st.booleans())
    def a_probe_ends(self, well: bool) -> None:
        self.breaker.probe_ended(well=well)
        if well:
            self.expected, self.failures, self.closed_at = State.CLOSED, 0, self.now
        else:
            self._opens()

    @precondition(lambda self: self.expected is not State.OPEN)
    @rule()
    def a_probe_cannot_begin_unless_open(self) -> None:
        with pytest.raises(RuntimeError):
            self.breaker.probe_began()

    @precondition(lambda self: self.expected is not State.HALF_OPEN)
    @rule()
    def a_probe_cannot_end_before_it_began(self) -> None:
        with pytest.raises(RuntimeError):
            self.breaker.probe_ended(well=True)

    def _opens(self) -> None:
        well_for_long = self.expected is State.CLOSED and (
            self.closed_at is None or self.now - self.closed_at >= OPEN_S
        )
        self.wait = FIRST_S if well_for_long else min(2 * self.wait, OPEN_S)
        self.expected = State.OPEN
        self.opened_at = self.now

    @invariant()
    def it_is_as_described(self) -> None:
        assert self.breaker.state is self.expected
        assert self.breaker.allows is (self.expected is State.CLOSED)

    @invariant()
    def an_open_one_is_probed_after_its_time_and_not_before(self) -> None:
        if self.expected is State.OPEN:
            due = self.opened_at + self.wait - self.now
            assert self.breaker.probe_due_s() == pytest.approx(max(0.0, due))

    @invariant()
    def every_change_was_told_and_they_join_up(self) -> None:
        state = State.CLOSED
        for old, new in self.changes:
            assert old is state
            assert new is not old
            state = new
        assert state is self.breaker.state


TestBreaker = BreakerMachine.TestCase


def test_one_timeout_opens_it_and_three_errors_do() -> None:
    breaker = Breaker(BreakerPolicy())
    breaker.failed(timeout=True)
    assert breaker.state is State.OPEN

    breaker = Breaker(BreakerPolicy())
    for _ in range(2):
        breaker.failed(timeout=False)
    assert breaker.allows
    breaker.failed(timeout=False)
    assert not breaker.allows


def test_a_hiccup_costs_a_moment_and_a_model_that_stays_ill_is_left_alone_for_longer_and_longer() -> None:
    now = [0.0]
    breaker = Breaker(BreakerPolicy(), lambda: now[0])
    breaker.failed(timeout=True)
    waits = [breaker.probe_due_s()]
    for _ in range(8):
        now[0] += waits[-1]
        breaker.probe_began()
        breaker.probe_ended(well=False)
        waits.append(round(breaker.probe_due_s(), 3))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


@pytest.mark.parametrize(("well_for_s", "wait_s"), [(1.0, 0.2), (6.0, 0.1)])
def test_a_model_that_fails_soon_after_it_was_let_back_in_waits_longer(
    well_for_s: float, wait_s: float
) -> None:
    now = [0.0]
    breaker = Breaker(BreakerPolicy(), lambda: now[0])
    breaker.failed(timeout=True)
    breaker.probe_began()
    breaker.probe_ended(well=True)
    now[0] += well_for_s
    breaker.failed(timeout=True)
    assert breaker.probe_due_s() == pytest.approx(wait_s)


@pytest.mark.parametrize(
    "wrong", [{"failures_max": 0}, {"open_first_s": 0}, {"open_s": 0}, {"open_s": float("nan")}]
)
def test_impossible_policies_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidSetting):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]
