"""The memory of answered ids: knows content, keeps at least what it promises, stays bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.decisions.duplicates import Answered, content_hash, key, short


def ids(*numbers: int) -> dict[int, int]:
    return {key(f"id-{n}"): short(content_hash(b"%d" % n)) for n in numbers}


def knows(answered: Answered, n: int) -> bool | None:
    known = answered.get(key(f"id-{n}"))
    return None if known is None else known == short(content_hash(b"%d" % n))


def test_an_id_is_new_then_known_by_its_content() -> None:
    answered = Answered(10, 60)
    assert knows(answered, 1) is None
    answered.keep(ids(1), 0.0)
    assert knows(answered, 1) is True
    assert answered.get(key("id-1")) != short(content_hash(b"other"))
    assert knows(answered, 2) is None


@given(st.integers(2, 50), st.lists(st.integers(1, 5), max_size=60))
def test_at_least_half_is_kept_and_no_more_than_all_and_a_batch(ids_max: int, batches: list[int]) -> None:
    answered, last = Answered(ids_max, 1e9), 0
    for size in batches:
        answered.keep(ids(*range(last, last + size)), 1.0)
        last += size
        assert len(answered) <= ids_max + 2 * max(batches)
        kept = min(last, ids_max // 2)
        assert all(knows(answered, n) for n in range(last - kept, last))


@given(st.lists(st.floats(0.1, 40), max_size=60))
def test_an_id_is_known_for_the_whole_window(steps: list[float]) -> None:
    answered, now, at = Answered(1_000_000, 60.0), 1_000.0, {}
    for n, step in enumerate(steps):
        now += step
        answered.keep(ids(n), now)
        at[n] = now
        assert all(knows(answered, each) for each, then in at.items() if now - then <= 60)


def test_what_is_much_older_than_the_window_is_forgotten() -> None:
    answered = Answered(1_000_000, 60.0)
    answered.keep(ids(1), 1_000.0)
    for n, now in enumerate((1_061.0, 1_122.0, 1_183.0), start=2):
        answered.keep(ids(n), now)
    assert knows(answered, 1) is None


def test_a_memory_of_one_still_works() -> None:
    answered = Answered(1, 60)
    for n in range(5):
        answered.keep(ids(n), 1.0)
        assert knows(answered, n) is True
    assert len(answered) <= 2
