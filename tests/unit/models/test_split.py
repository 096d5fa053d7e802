"""The split: published vectors, exact at both ends, monotone, sticky, even, and apart across partitions."""

from __future__ import annotations

from itertools import islice

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models import split
from pointsman.models.split import BUCKETS, bucket, even, evenly, sticky

seeds = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
units = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
percentages = st.integers(0, 10_000).map(lambda basis_points: basis_points / 100)


def test_the_hash_is_the_published_murmur3() -> None:
    assert mmh3.hash("test", 0, signed=False) == 0xBA6BD213
    assert mmh3.hash("AB12A:122", 0, signed=False) % 100 + 1 == 23
    assert mmh3.hash("AB12A:155", 0, signed=False) % 100 + 1 == 100


@pytest.mark.parametrize(("unit", "expected"), [("122", 0x3F4E7E32), ("155", 0xC2CD44CF)])
def test_a_bucket_is_the_high_part_of_the_hash_of_seed_and_unit(unit: str, expected: int) -> None:
    assert mmh3.hash(f"AB12A:{unit}", 0, signed=False) == expected
    assert bucket("AB12A", unit) == expected * 10_000 // 2**32


@given(seeds, units)
def test_buckets_lie_in_their_range(seed: str, unit: str) -> None:
    assert 0 <= bucket(seed, unit) < BUCKETS


@given(seeds, units, st.integers(0, 64), st.integers(0, 10**9))
def test_nothing_at_0_and_everything_at_100(seed: str, unit: str, partition: int, counter: int) -> None:
    assert not sticky(seed, unit, 0)
    assert sticky(seed, unit, 100)
    assert not even(seed, partition, counter, 0)
    assert even(seed, partition, counter, 100)


@given(seeds, units, percentages, percentages)
def test_raising_the_percentage_only_ever_adds_units(seed: str, unit: str, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert not sticky(seed, unit, low) or sticky(seed, unit, high)


@given(seeds, st.integers(0, 64), st.integers(0, 10**9), percentages, percentages)
def test_raising_the_percentage_only_ever_adds_places(
    seed: str, partition: int, counter: int, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    assert not even(seed, partition, counter, low) or even(seed, partition, counter, high)


@pytest.mark.parametrize("percentage", [0.01, 1, 5, 33.33, 50, 99.99])
def test_a_percentage_holds_as_many_buckets_as_it_says(percentage: float) -> None:
    below = sum(number < round(percentage * 100) for number in range(BUCKETS))
    assert below == round(percentage * 100)
    taken = sum(sticky("seed", f"user-{n}", percentage) for n in range(20_000)) / 200
    spread = 4 * (percentage * (100 - percentage) / 20_000) ** 0.5 + 0.02
    assert abs(taken - percentage) < spread


def test_every_hundredth_of_a_percent_is_one_bucket_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in range(BUCKETS + 1):
        percentage = count / 100
        for number in (count - 1, count):
            monkeypatch.setattr(split, "bucket", lambda _seed, _unit, n=number: n)
            assert sticky("seed", "unit", percentage) is (number < count), percentage


def test_the_lowest_place_of_all_is_nobodys_at_0_and_the_candidates_above() -> None:
    assert not even("", 0, 0, 0)  # this seed hashes to 0
    assert even("", 0, 0, 0.01)


@pytest.mark.parametrize("percentage", range(101))
@pytest.mark.parametrize("seed", ["a", "0123456789abcdef"])
def test_of_any_1000_in_a_row_the_share_is_within_2(seed: str, percentage: int) -> None:
    taken = [even(seed, 3, n, percentage) for n in range(6_000)]
    count = sum(taken[:1_000])
    low = high = count
    for n in range(5_000):
        count += taken[n + 1_000] - taken[n]
        low, high = min(low, count), max(high, count)
    assert percentage * 10 - 2 <= low
    assert high <= percentage * 10 + 2


@pytest.mark.parametrize("start", [10**6, 10**9, 2**40])
@pytest.mark.parametrize("percentage", [1, 5, 20, 50])
def test_the_split_stays_even_after_a_long_time(start: int, percentage: int) -> None:
    assert abs(sum(even("s", 0, start + n, percentage) for n in range(1_000)) - percentage * 10) <= 2


@pytest.mark.parametrize("partitions", [2, 3, 4, 6, 12, 16, 32, 48, 64, 100, 250, 1_000])
@pytest.mark.parametrize("percentage", [1, 5, 20, 50, 95])
def test_partitions_that_take_turns_split_evenly_together(partitions: int, percentage: int) -> None:
    for begin in (0, 7, 1_000):
        each = 1_000 // partitions + 1
        order = [(p, begin + n) for n in range(each) for p in range(partitions)][:1_000]
        taken = sum(even("seed", p, n, percentage) for p, n in order)
        assert abs(taken - percentage * 10) <= 10


def test_partitions_do_not_run_in_step() -> None:
    patterns = {tuple(even("seed", p, n, 20) for n in range(200)) for p in range(64)}
    assert len(patterns) == 64


@given(st.text(max_size=20), st.integers(0, 10_000), st.integers(0, 2**53), percentages)
def test_a_batch_is_split_as_its_requests_one_by_one(
    seed: str, partition: int, start: int, share: float
) -> None:
    batch = list(islice(evenly(seed, partition, start, share), 50))
    assert batch == [even(seed, partition, start + n, share) for n in range(50)]
