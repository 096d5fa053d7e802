"""Requests for open-loop load: the number of each stands in its id, so that an outcome's key says which it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.data import requests

TOKEN_CHARACTERS = 8
"""Of a run, in front of each id: outcomes of another run are not counted."""
POOL = 5_000
"""Different inputs that are taken in turn: real ones, more than a batch holds and few enough to stay in memory."""

Make = Callable[[int], tuple[bytes, bytes]]
"""Number of a request to its key and value."""


def request_id(token: str, number: int) -> bytes:
    """The id of a run's request."""
    return b"%s%024x" % (token.encode(), number)


def number_of(token: str, key: bytes) -> int | None:
    """Which request of the run an outcome answers; None for another run's."""
    if not key.startswith(token.encode()):
        return None
    return int(key[TOKEN_CHARACTERS:], 16)


def maker(
    token: str, commits: Path | None, agents: Sequence[str] = ("documentation-keeper",), units: int = 0
) -> Make:
    """Requests of a run. ``agents`` are asked in turn; ``units`` > 0: so many, in turn, and they are the key.

    Units and inputs move on by one in each round: else fifty agents and a thousand units would pair off, and an agent
    have five units a partition, which are now and then all of one arm.
    """
    inputs = [_input(value) for _, value in requests(POOL, commits)]
    names = [name.encode() for name in agents]

    def make(number: int) -> tuple[bytes, bytes]:
        key = request_id(token, number)
        body = b'{"id":"%s","agent":"%s",' % (key, names[number % len(names)])
        content = inputs[_shifted(number, len(inputs))]
        if not units:
            return key, b'%s"input":%s}' % (body, content)
        unit = b"unit-%d" % _shifted(number, units)
        return unit, b'%s"unit":"%s","input":%s}' % (body, unit, content)

    return make


def _shifted(number: int, size: int) -> int:
    return (number + number // size) % size


def _input(value: bytes) -> bytes:
    """What stands after ``"input":`` in a request of `benchmarks.data`."""
    return value[value.index(b'"input":') + len(b'"input":') : -1]
