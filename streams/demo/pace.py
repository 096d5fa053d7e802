"""`Pace`: how much may be on its way, so that a broker that forgets early forgets nothing unread. Pure.

A partition's bytes count from the send of a request until its outcome lies in the database.
"""

from __future__ import annotations

from collections import deque
from typing import Final

IN_FLIGHT: Final = 250
"""Requests without an outcome. Twice as many are a quarter faster, and wait half as long again."""
BYTES: Final = 2 * 1024 * 1024
"""A partition's unread bytes in any one topic. The embedded broker keeps 5 MiB; the rest is for what its
batches add and for messages that are written between two looks."""
OUTCOME_EXTRA: Final = 3_000
"""An outcome holds its request's input, some 40 features, two answers and versions: some 2,100 bytes more."""

Place = tuple[str, int]
"""Topic and partition."""


class Pace:
    """Counts what was sent and not yet answered, and what was written and not yet stored."""

    def __init__(self, in_flight: int = IN_FLIGHT, bytes_max: int = BYTES) -> None:
        if in_flight < 1 or bytes_max < 1:
            msg = f"in_flight and bytes_max must be at least 1, not {in_flight} and {bytes_max}"
            raise ValueError(msg)
        self.in_flight = in_flight
        self.bytes_max = bytes_max
        self._waiting: dict[str, tuple[int, int]] = {}
        self._asked: dict[int, int] = {}
        self._unread: dict[Place, deque[tuple[int, int]]] = {}
        self._bytes: dict[Place, int] = {}
        self._stored: dict[Place, int] = {}

    @property
    def waiting(self) -> int:
        """Requests that have no outcome yet."""
        return len(self._waiting)

    def unread(self, place: Place) -> int:
        """Bytes of a partition that were written and are not stored yet."""
        return self._bytes.get(place, 0)

    @property
    def stored_all(self) -> bool:
        """Whether everything that is known to be written is stored."""
        return not any(self._unread.values())

    def room(self, partition: int, size: int, outcomes: str) -> bool:
        """Whether a request of ``size`` bytes may be sent now. One alone always may."""
        if len(self._waiting) >= self.in_flight:
            return False
        expected = self._asked.get(partition, 0) + self.unread((outcomes, partition))
        return not expected or expected + size + OUTCOME_EXTRA <= self.bytes_max

    def room_for(self, place: Place, size: int) -> bool:
        """Whether a message to another topic may be written now. One alone always may."""
        return not self.unread(place) or self.unread(place) + size <= self.bytes_max

    def sent(self, id_: str, partition: int, size: int) -> None:
        """A request is on its way."""
        cost = size + OUTCOME_EXTRA
        self._waiting[id_] = (partition, cost)
        self._asked[partition] = self._asked.get(partition, 0) + cost

    def answered(self, id_: str) -> bool:
        """Its outcome came; False for one that nobody waits for: a repeated or a foreign one."""
        found = self._waiting.pop(id_, None)
        if found is None:
            return False
        partition, cost = found
        self._asked[partition] -= cost
        return True

    def written(self, place: Place, offset: int, size: int) -> None:
        """A message lies at an offset, to be stored."""
        if offset < self._stored.get(place, 0):
            return
        self._unread.setdefault(place, deque()).append((offset, size))
        self._bytes[place] = self._bytes.get(place, 0) + size

    def stored(self, place: Place, next_offset: int) -> None:
        """Everything below an offset is in the database. Offsets that go backwards change nothing."""
        self._stored[place] = max(next_offset, self._stored.get(place, 0))
        unread = self._unread.get(place)
        while unread and unread[0][0] < next_offset:
            self._bytes[place] -= unread.popleft()[1]
