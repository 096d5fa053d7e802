"""The circuit breaker of one agent: after a failure the model is left alone, then tried off the path.

At first for a moment, since most failures are a hiccup of the machine: a tenth of a second of answers by the rules.
While it goes on failing the time doubles, up to the greatest, and so again if it fails soon after it was let back in.

closed ── a timeout, or `failures_max` other failures in a row ──> open
open ── a probe begins ──> half_open ── it succeeds ──> closed
                                     └─ it fails ─────> open
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from pointsman.schemas.errors import InvalidSetting


class State(StrEnum):
    """Only a closed breaker lets requests through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long at most. Raises `InvalidSetting` for an impossible value."""

    failures_max: int = 3
    """Failures in a row that open it. They come at once and cost nothing, so one alone is no reason.
    A timeout is: it costs every batch the whole deadline, so the first one opens the breaker."""
    open_s: float = 5.0
    """The longest; also how long it must have been closed for the next time to be short again."""
    open_first_s: float = 0.1

    def __post_init__(self) -> None:
        if self.failures_max < 1:
            raise InvalidSetting("failures_max", f"at least 1, not {self.failures_max}")
        if not self.open_s > 0:
            raise InvalidSetting("model_breaker_open_s", f"above 0, not {self.open_s}")
        if not self.open_first_s > 0:
            raise InvalidSetting("open_first_s", f"above 0, not {self.open_first_s}")


class Breaker:
    """State and clock only; who probes, and how, is the client's business."""

    def __init__(
        self,
        policy: BreakerPolicy,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[State, State], None] = lambda _old, _new: None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._on_change = on_change
        self._state = State.CLOSED
        self._failures = 0
        self._opened_at = 0.0
        self._closed_at = -inf
        self._open_s = 0.0

    @property
    def state(self) -> State:
        """The state now. It changes by what is reported, never by the clock alone."""
        return self._state

    @property
    def allows(self) -> bool:
        """Whether a request may go to the model."""
        return self._state is State.CLOSED

    def succeeded(self) -> None:
        """A request was answered. An answer that comes after the breaker opened proves nothing: probes do."""
        if self._state is State.CLOSED:
            self._failures = 0

    def failed(self, *, timeout: bool) -> None:
        """A request failed. What was under way when the breaker opened does not count again."""
        if self._state is not State.CLOSED:
            return
        self._failures += 1
        if timeout or self._failures >= self._policy.failures_max:
            self._open()

    def probe_due_s(self) -> float:
        """Seconds until the next probe should begin; 0 when it should now."""
        return max(0.0, self._opened_at + self._open_s - self._clock())

    def probe_began(self) -> None:
        """A probe is under way. Earlier than due is allowed: a new server is a good reason."""
        if self._state is not State.OPEN:
            msg = f"a probe begins in state open, not {self._state}"
            raise RuntimeError(msg)
        self._change(State.HALF_OPEN)

    def probe_ended(self, *, well: bool) -> None:
        """The probe was answered well, or not."""
        if self._state is not State.HALF_OPEN:
            msg = f"a probe ends in state half_open, not {self._state}"
            raise RuntimeError(msg)
        if not well:
            self._open()
            return
        self._failures = 0
        self._closed_at = self._clock()
        self._change(State.CLOSED)

    def _open(self) -> None:
        self._opened_at = self._clock()
        again = self._state is State.HALF_OPEN or self._opened_at - self._closed_at < self._policy.open_s
        wait_s = 2 * self._open_s if again else self._policy.open_first_s
        self._open_s = min(wait_s, self._policy.open_s)
        self._change(State.OPEN)

    def _change(self, new: State) -> None:
        old, self._state = self._state, new
        self._on_change(old, new)
