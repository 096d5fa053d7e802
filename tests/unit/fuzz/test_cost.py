"""What an input costs is bounded by its size: nothing here comes near its time-out, and memory is counted."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.fuzz.check import Target, verdict
from tests.fuzz.corpus import kept
from tests.fuzz.hostile import HOSTILE, SIZE
from tests.fuzz.targets import TARGETS

BYTES_PER_BYTE = 200
"""A list of one-letter texts, say, costs some 60 bytes a letter; and both sides of a protocol are held here."""
BYTES_ASIDE = 8 * 1024 * 1024
"""Whatever is made at the first use: caches, tables, an agent's first row."""


def peak(target: Target, value: bytes) -> int:
    """Bytes that a decoder holds at most."""
    tracemalloc.start()
    try:
        verdict(target, value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", TARGETS)
def test_a_large_input_that_is_made_to_cost_is_decided(name: str) -> None:
    """Anything that grows with the square of a quarter of a megabyte would take hours."""
    for value in HOSTILE.values():
        verdict(TARGETS[name], value)


@pytest.mark.parametrize("name", TARGETS)
def test_memory_is_bounded_by_the_inputs_size(name: str) -> None:
    target = TARGETS[name]
    for value in kept(name).values():
        verdict(target, value)
        assert peak(target, value) < BYTES_ASIDE + BYTES_PER_BYTE * len(value)
    for each in ("flat brackets", "many keys", "one string", "assignments", "tiny frames"):
        assert peak(target, HOSTILE[each]) < BYTES_ASIDE + BYTES_PER_BYTE * SIZE


def test_memory_beyond_the_inputs_size_would_be_seen() -> None:
    assert (
        peak(Target("greedy", lambda value: bytearray(1_000 * SIZE)), b"x")
        > BYTES_ASIDE + BYTES_PER_BYTE * SIZE
    )
