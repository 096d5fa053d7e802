"""Intervals by resampling: values, coverage, and that clusters widen them."""

from __future__ import annotations

import numpy as np
import pytest

from pointsman.models import evaluate
from pointsman.models.resample import macro_pair


def drawn(seed: int, *, groups: int = 4, clusters: int = 60, size: int = 1) -> tuple[np.ndarray, ...]:
    """Truth, what two arms say, groups and clusters; decisions of a cluster are copies of each other."""
    random = np.random.default_rng(seed)
    n = groups * clusters
    truth = random.random(n) < 0.3
    first = np.where(truth, random.random(n) < 0.6, random.random(n) < 0.3)
    second = np.where(truth, random.random(n) < 0.75, random.random(n) < 0.3)
    names = np.array([f"g{i // clusters}" for i in range(n)])
    return tuple(np.repeat(each, size) for each in (truth, first, second, names, np.arange(n)))


def test_values_are_the_means_over_groups() -> None:
    truth, first, second, names, clusters = drawn(1)
    found = macro_pair(truth, (first, second), names, clusters, resampled="clusters")
    for estimate, said in ((found.first, first), (found.second, second)):
        by_group = [
            evaluate.balanced_accuracy(truth[m], said[m]).value
            for name in np.unique(names)
            for m in [names == name]
        ]
        assert estimate.value == pytest.approx(np.mean(by_group), abs=1e-6)
        assert estimate.low < estimate.value < estimate.high
    assert found.second_minus_first.value == pytest.approx(found.second.value - found.first.value, abs=2e-6)
    assert (found.groups, found.clusters) == (4, 240)


def test_the_same_seed_gives_the_same_interval() -> None:
    truth, first, second, names, clusters = drawn(2)
    runs = [
        macro_pair(truth, (first, second), names, clusters, resampled="groups", seed=seed)
        for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_copies_in_a_cluster_are_no_further_evidence() -> None:
    one = macro_pair(*_arguments(drawn(5)), resampled="clusters")
    copied = macro_pair(*_arguments(drawn(5, size=10)), resampled="clusters")
    assert copied == one


def test_other_groups_vary_more_than_other_samples_of_the_same() -> None:
    arguments = _arguments(drawn(6, groups=5))
    arguments[1][0][arguments[2] == "g0"] = False
    within = macro_pair(*arguments, resampled="clusters").first
    between = macro_pair(*arguments, resampled="groups").first
    assert between.high - between.low > within.high - within.low


def test_groups_of_one_class_are_left_out() -> None:
    truth, first, second, names, clusters = drawn(7)
    truth[names == "g0"] = False
    assert macro_pair(truth, (first, second), names, clusters, resampled="clusters").groups == 3
    none = macro_pair(np.zeros_like(truth), (first, second), names, clusters, resampled="clusters")
    assert (none.groups, none.first) == (0, evaluate.NOTHING)


def test_intervals_cover_as_often_as_they_claim() -> None:
    expected = (0.6 + 0.7) / 2
    hits = 0
    for seed in range(200):
        found = macro_pair(*_arguments(drawn(seed, groups=3, clusters=80)), resampled="clusters", seed=seed)
        hits += found.first.low <= expected <= found.first.high
    assert 180 <= hits <= 199


def _arguments(
    rows: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    truth, first, second, names, clusters = rows
    return truth, (first, second), names, clusters
