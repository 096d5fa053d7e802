"""Latency buckets: quantiles within 1 %, merging is addition."""

from __future__ import annotations

from collections import Counter
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas.latency import GAMMA, MIN_MS, bucket, middle_ms, quantile_ms

latencies = st.floats(0.011, 1e9)


@given(latencies)
def test_a_bucket_stands_for_its_latencies_within_one_percent(ms: float) -> None:
    assert middle_ms(bucket(ms)) == pytest.approx(ms, rel=0.01)


@given(latencies, latencies)
def test_a_longer_latency_never_lies_in_a_lower_bucket(a: float, b: float) -> None:
    assert (bucket(a) <= bucket(b)) or a > b


@given(st.floats(-1e9, MIN_MS))
def test_everything_up_to_the_least_latency_shares_a_bucket(ms: float) -> None:
    assert bucket(ms) == 0
    assert middle_ms(0) == MIN_MS


@pytest.mark.parametrize("index", [1, 2, 10, 500, 1_000])
def test_an_upper_edge_belongs_to_its_bucket(index: int) -> None:
    assert bucket(MIN_MS * GAMMA**index) == index


@given(st.lists(latencies, min_size=1, max_size=200), st.floats(0.001, 1))
def test_a_quantile_is_right_within_one_percent(values: list[float], q: float) -> None:
    exact = sorted(values)[max(1, ceil(q * len(values))) - 1]
    assert quantile_ms(Counter(map(bucket, values)), q) == pytest.approx(exact, rel=0.01)


@given(st.lists(latencies, min_size=1, max_size=50), st.lists(latencies, max_size=50), st.floats(0, 1))
def test_adding_histograms_is_the_histogram_of_all(some: list[float], more: list[float], q: float) -> None:
    merged = Counter(map(bucket, some)) + Counter(map(bucket, more))
    assert merged == Counter(map(bucket, some + more))
    assert quantile_ms(merged, q) == quantile_ms(Counter(map(bucket, some + more)), q)


def test_quantiles_of_nothing_are_none_and_the_ends_are_the_extremes() -> None:
    assert quantile_ms({}, 0.5) is None
    assert quantile_ms({3: 0}, 0.5) is None
    histogram = {bucket(1.0): 1, bucket(100.0): 1}
    assert quantile_ms(histogram, 0) == pytest.approx(1.0, rel=0.01)
    assert quantile_ms(histogram, 1) == pytest.approx(100.0, rel=0.01)
    assert quantile_ms(histogram, 1) < inf
