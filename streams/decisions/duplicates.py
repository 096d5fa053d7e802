"""`Answered`: ids that have an outcome, so that a repeated request gets no second one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xxhash import xxh3_64_intdigest

content_hash: Final[Callable[[bytes], int]] = xxh3_64_intdigest
"""XXH3-64 of a request's bytes.

It tells a repeat from another request that has the same id by accident. It is no seal, and of no hash would the 32 bits be
one that are compared: who knows a request in advance can have it counted as a repeat of one of their own.
"""
key: Final[Callable[[str], int]] = hash
"""An id as `Answered` keeps it: a number of 64 bits, another one in each process."""


class Answered:
    """A bounded memory of ids in two generations.

    It keeps at least the last half of ``ids_max`` that are not older than ``window_s``, and at most all of
    ``ids_max`` and one batch, none much longer than two windows.

    An id is kept as its 64-bit hash (keyed anew in each process, so nobody can aim at a collision; by
    chance it happens once in 10^13 requests) and the content as 32 bits of its own: 150 bytes an id.
    """

    def __init__(self, ids_max: int, window_s: float) -> None:
        self._half = max(1, ids_max // 2)
        self._window_s = window_s
        self._new: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: int) -> int | None:
        """What is kept of the content that an id (hashed, `key`) was answered with; None for an id that is new."""
        known = self._new.get(key)
        return self._old.get(key) if known is None else known

    def keep(self, answered: dict[int, int], now_s: float) -> None:
        """Ids (hashed, `key`) that have a committed outcome now; ``now_s`` in seconds of any clock."""
        if len(self._new) >= self._half or now_s - self._since > self._window_s:
            self._old, self._new = self._new, {}
            self._since = now_s
        self._new.update(answered)


def short(content: int) -> int:
    """32 bits of a content hash."""
    return content & 0xFFFF_FFFF
