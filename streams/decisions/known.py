"""`KnownAnswers`: what is written of the rules' answers, which are mostly the same objects from batch to batch."""

from __future__ import annotations

from typing import Final

import msgspec

from pointsman.schemas.outcome import Action, Answer

KNOWN_MAX: Final = 512
"""Answers of an agent that are remembered, some 3 kB each: of documentation-keeper's, 92 in 100 that come."""
BYTES_MAX: Final = 2_000
"""A longer answer is encoded each time: half a thousand of them are held."""

_encode = msgspec.json.Encoder().encode


class Served(msgspec.Struct, frozen=True, gc=False):
    """The part of an outcome that says what was served; the rules' answer comes after it."""

    part: bytes
    action: Action


class Known(msgspec.Struct, gc=False):
    """One answer, and what is written of it: little and close together, for fifty agents have ten thousands of them, and
    each is looked at when it has long left the processor's caches.
    """

    answer: Answer
    """Held, for it is known by its identity."""
    encoded: bytes
    control: Served | None = None
    """How the control serves it."""
    candidate: tuple[str | None, Served] | None = None
    """How the candidate serves it, for the reason that there was last: model failures come in runs."""


class KnownAnswers:
    """Of one agent. Answers are frozen, and equal ones mostly one object; where they are not, nothing is gained."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}
        self.get = self._known.get
        """By an answer's `id`, what is known of it."""

    def __len__(self) -> int:
        """Answers that are held."""
        return len(self._known)

    def remember(self, answer: Answer) -> Known:
        """What is to be known of an answer that is not: now its encoding."""
        known = Known(answer, _encode(answer))
        if len(known.encoded) <= BYTES_MAX:
            if len(self._known) >= KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[id(answer)] = known
        return known
