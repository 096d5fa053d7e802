"""Figures and their intervals, against published values, simulation and each other."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models import evaluate as e

COSTS = e.Costs(needless=1.0, missed=4.0)
flags = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60)


def arrays(rows: list[tuple[bool, bool, bool]]) -> list[np.ndarray]:
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_wilson_gives_the_published_interval() -> None:
    found = e.wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    none = e.wilson(0, 20)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)


def test_nothing_measured_says_so_by_its_interval() -> None:
    empty = np.array([], dtype=bool)
    assert e.accuracy(empty, empty) == e.NOTHING
    assert e.balanced_accuracy(empty, empty) == e.NOTHING
    assert e.quality(empty, empty, np.array([]), COSTS).n == 0
    assert e.paired_difference(empty, empty, empty, COSTS).accuracy.value == 0


def test_never_looks_good_plain_and_like_a_coin_balanced() -> None:
    truth = np.array([True] * 17 + [False] * 83)
    never = np.zeros(100, dtype=bool)
    assert e.accuracy(truth, never).value == pytest.approx(0.83)
    assert e.balanced_accuracy(truth, never).value == pytest.approx(0.5)


def test_success_charges_each_error_its_share() -> None:
    truth = np.array([True, True, False, False])
    said = np.array([True, False, True, False])
    assert e.success_values(truth, said, COSTS).tolist() == [1.0, 0.0, 0.75, 1.0]
    assert e.success(truth, said, COSTS).value == pytest.approx(2.75 / 4)
    assert COSTS.threshold == pytest.approx(0.2)


def test_auc_counts_ties_half() -> None:
    truth = np.array([True, True, False, False])
    assert e.auc(truth, np.array([0.9, 0.8, 0.2, 0.1])) == 1.0
    assert e.auc(truth, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert e.auc(truth, np.array([0.9, 0.5, 0.5, 0.1])) == pytest.approx(0.875)
    assert e.auc(np.ones(3, dtype=bool), np.arange(3.0)) == 0.5


def test_calibration_puts_every_score_in_one_bin() -> None:
    scores = np.array([0.0, 0.05, 0.1, 0.99, 1.0])
    bins = e.calibration(np.array([True, False, False, True, True]), scores)
    assert [(b.low, b.n, b.share_positive) for b in bins] == [(0.0, 2, 0.5), (0.1, 1, 0.0), (0.9, 2, 1.0)]


@given(flags)
def test_every_interval_holds_its_value_and_stays_in_range(rows: list[tuple[bool, bool, bool]]) -> None:
    truth, first, second = arrays(rows)
    for found in (
        e.accuracy(truth, first),
        e.balanced_accuracy(truth, first),
        e.success(truth, first, COSTS),
    ):
        assert 0 <= found.low <= found.value <= found.high <= 1
    paired = e.paired_difference(truth, first, second, COSTS)
    for found in (paired.accuracy, paired.balanced_accuracy, paired.success):
        assert -1 <= found.low <= found.value <= found.high <= 1


@given(flags)
def test_a_paired_difference_is_the_difference_of_the_two_figures(
    rows: list[tuple[bool, bool, bool]],
) -> None:
    truth, first, second = arrays(rows)
    paired = e.paired_difference(truth, first, second, COSTS)
    for found, figure in (
        (paired.accuracy, e.accuracy),
        (paired.balanced_accuracy, e.balanced_accuracy),
        (paired.success, lambda t, s: e.success(t, s, COSTS)),
    ):
        assert found.value == pytest.approx(figure(truth, second).value - figure(truth, first).value)


@given(flags)
def test_swapping_the_arms_turns_the_sign(rows: list[tuple[bool, bool, bool]]) -> None:
    truth, first, second = arrays(rows)
    one, other = (
        e.paired_difference(truth, first, second, COSTS),
        e.paired_difference(truth, second, first, COSTS),
    )
    assert one.balanced_accuracy.low == pytest.approx(-other.balanced_accuracy.high)


def test_balanced_intervals_cover_as_often_as_they_claim() -> None:
    random = np.random.default_rng(7)
    truth = np.array([True] * 40 + [False] * 200)
    hits = paired_hits = 0
    for _ in range(1000):
        first = np.where(truth, random.random(240) < 0.6, random.random(240) < 0.25)
        second = np.where(truth, random.random(240) < 0.7, random.random(240) < 0.25)
        found = e.balanced_accuracy(truth, first)
        hits += found.low <= (0.6 + 0.75) / 2 <= found.high
        difference = e.paired_difference(truth, first, second, COSTS).balanced_accuracy
        paired_hits += difference.low <= 0.05 <= difference.high
    assert 930 <= hits <= 980
    assert 930 <= paired_hits <= 980


def test_groups_without_one_class_are_left_out_of_the_balanced_mean() -> None:
    truth = np.array([True, False, False, False])
    said = np.array([True, False, True, True])
    groups = np.array(["a", "a", "b", "b"])
    found = e.quality(truth, said, np.array([0.9, 0.1, 0.8, 0.8]), COSTS, groups)
    assert found.macro_balanced_accuracy is not None
    assert found.macro_balanced_accuracy.value == 1.0
    assert found.macro_success is not None
    assert found.macro_success.value == pytest.approx((1 + 0.75) / 2)


def test_it_needs_no_scikit_learn() -> None:
    code = (
        "import sys, pointsman.models.evaluate; sys.exit('sklearn' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
