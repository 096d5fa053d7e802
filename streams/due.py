"""`Due`: when the records of a delayed partition may be taken. Their delay is the topic's, so the order stays.

A record is due its delay after its time. Clocks of machines differ and jump, so the wait is worked out once, when
the record is first seen, is never longer than the delay itself, and runs on a clock that does not jump.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from pointsman.streams.output import Record


class Due:
    """Moments of the records that wait in one buffer, in its order; all in seconds of the steady clock."""

    def __init__(
        self,
        delay_s: float,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._delay_s = delay_s
        self._steady = steady
        self._wall = wall
        self._at: deque[float] = deque()

    def offered(self, records: Iterable[Record]) -> None:
        """Records that come to the end of the buffer."""
        now, wall = self._steady(), self._wall()
        for record in records:
            # A record without a time (-1) waits the whole delay.
            left = record.timestamp / 1000 + self._delay_s - wall if record.timestamp > 0 else self._delay_s
            self._at.append(now + min(max(0.0, left), self._delay_s))

    def left(self) -> float | None:
        """Seconds until the first may be taken, 0 where it may; None where there is none."""
        return max(0.0, self._at[0] - self._steady()) if self._at else None

    def ready(self) -> int:
        """How many at the head may be taken now."""
        now, count = self._steady(), 0
        for at in self._at:
            if at > now:
                break
            count += 1
        return count

    def holds(self) -> bool:
        """Whether the last one waits: then whatever comes after it waits too."""
        return bool(self._at) and self._at[-1] > self._steady()

    def took(self, count: int) -> None:
        """So many have left the head of the buffer."""
        for _ in range(count):
            self._at.popleft()

    def clear(self) -> None:
        """The buffer was emptied."""
        self._at.clear()
