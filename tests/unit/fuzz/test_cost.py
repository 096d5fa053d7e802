"""What an input costs is bounded by its size: memory is counted, and time does not grow with the square."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from tests.fuzz.check import Target, verdict
from tests.fuzz.corpus import kept
from tests.fuzz.hostile import HOSTILE, SIZE, hostile
from tests.fuzz.targets import TARGETS

BYTES_PER_BYTE = 100
"""A line of three letters, say, costs a list, two texts and a pair; and both sides of a protocol are held here."""
BYTES_ASIDE = 8 * 1024 * 1024
"""Whatever is made at the first use: caches, tables, an agent's first row."""
TIMES_LARGER = 16
SMALLER = hostile(SIZE // TIMES_LARGER)
TIMES_SLOWER_MAX = 32
"""Linear is 16, the square 256; between them is room for both at once, and for caches too small for the larger input."""
CHEAP_S = 0.05
"""Less than this is cheap enough, whatever it grows with; and too little to be compared."""
TRIES = 5
KNOWN = {("settings-toml", "dots")}
"""Python's own TOML reader takes seconds for a key of 30,000 parts; the file is its reader's own, and 64 KB at most."""


def peak(target: Target, value: bytes) -> int:
    """Bytes that a decoder holds at most."""
    tracemalloc.start()
    try:
        verdict(target, value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def costs(target: Target, value: bytes) -> float:
    """Seconds of this thread's own time: what other programs do is not in it."""
    gc.disable()
    try:
        began = time.thread_time()
        verdict(target, value)
        return time.thread_time() - began
    finally:
        gc.enable()


def explodes(target: Target, smaller: bytes, larger: bytes) -> str:
    """Times, where those of the larger input are out of proportion at every try; nothing where they are not."""
    low = high = float("inf")
    for _ in range(TRIES):
        low, high = min(low, costs(target, smaller)), min(high, costs(target, larger))
        if high < max(CHEAP_S, TIMES_SLOWER_MAX * low):
            return ""
    return f"{low:.3f} s for {len(smaller)} bytes, {high:.3f} s for {len(larger)}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", TARGETS)
def test_the_time_of_an_input_that_is_made_to_cost_does_not_grow_with_the_square(name: str) -> None:
    compared = [each for each in HOSTILE if (name, each) not in KNOWN]
    found = {each: explodes(TARGETS[name], SMALLER[each], HOSTILE[each]) for each in compared}
    assert {each: times for each, times in found.items() if times} == {}


@pytest.mark.parametrize("name", TARGETS)
def test_memory_is_bounded_by_the_inputs_size(name: str) -> None:
    target = TARGETS[name]
    for value in (*kept(name).values(), *HOSTILE.values()):
        verdict(target, value)
        assert peak(target, value) < BYTES_ASIDE + BYTES_PER_BYTE * len(value), value[:50]


# -- both would see what they are for --------------------------------------------------------------


def test_the_larger_inputs_are_as_many_times_larger() -> None:
    for each, value in HOSTILE.items():
        assert 0.7 * SIZE < len(value) <= SIZE, each
        assert pytest.approx(len(value) / len(SMALLER[each]), rel=0.2) == TIMES_LARGER


def _copies_what_is_left(value: bytes) -> int:
    """The usual way to the square: cheap at each step, and the steps are as many as the bytes."""
    steps = 0
    while value:
        value = value[4:]
        steps += 1
    return steps


def test_time_that_grows_with_the_square_would_be_seen() -> None:
    assert explodes(Target("copies", _copies_what_is_left), SMALLER["one string"], HOSTILE["one string"])
    assert not explodes(Target("counts", sum), SMALLER["one string"], HOSTILE["one string"])


def test_memory_beyond_the_inputs_size_would_be_seen() -> None:
    assert (
        peak(Target("greedy", lambda value: bytearray(1_000 * SIZE)), b"x")
        > BYTES_ASIDE + BYTES_PER_BYTE * SIZE
    )
