"""The drift watch's statistics: what is stable is rarely called drifted, what moved is found, too few say nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency

from pointsman.models import drift
from pointsman.models.drift import SCORE, Bins, Floats, Grid, Limits, Reference

NAMES = ("flag", "rare", "count", "share", "always")
values = st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.0, 1.0, 2.0])


def drawn(n: int, seed: int, *, rate: float = 0.3, shift: float = 0.0) -> tuple[Floats, Floats]:
    """Features of the kinds that agents have, and scores."""
    random = np.random.default_rng(seed)
    columns = [
        random.random(n) < rate,
        random.random(n) < 0.004,
        random.poisson(1.5, n),
        random.normal(shift, 1, n),
        np.full(n, 7.0),
    ]
    return np.column_stack(columns).astype(np.float64), random.beta(2, 5, n)


def compared(known: Reference, matrix: Floats, scores: Floats, limits: Limits) -> dict[str, drift.Drift]:
    """By feature."""
    grid = Grid(known)
    found = drift.compare(known, grid.split(grid.counts(matrix, scores).tolist()), limits)
    assert [each.feature for each in found] == [*NAMES, SCORE]
    return {each.feature: each for each in found}


TRAINED = drift.reference(NAMES, *drawn(20_000, 0))


def test_bins_have_about_equal_shares_and_frequent_values_one_of_their_own() -> None:
    by_name = {each.feature: each for each in TRAINED.bins}
    assert by_name["flag"].edges == (0.5,)
    assert by_name["rare"].edges == (0.5,)
    assert by_name["rare"].counts[1] < 150
    assert by_name["count"].edges == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
    assert len(by_name["share"].counts) == drift.BINS
    assert by_name["share"].counts == pytest.approx([2_000] * drift.BINS, abs=2)
    assert by_name["always"].counts == (0, 20_000, 0)
    assert all(sum(each.counts) == 20_000 for each in TRAINED.bins)


@given(st.lists(values, min_size=1, max_size=200), st.lists(values, max_size=50))
@settings(max_examples=200, deadline=None)
def test_each_value_is_counted_in_the_bin_between_its_edges(known: list[float], later: list[float]) -> None:
    matrix = np.array(known)[:, None]
    made = drift.reference(["it"], matrix, np.array(known))
    bins = made.bins[0]
    assert drift.problem(made, ["it"]) is None
    assert len(bins.counts) <= drift.BINS
    assert all(low < high for low, high in pairwise(bins.edges))
    expected = [0] * len(bins.counts)
    for value in later:
        expected[sum(value > edge for edge in bins.edges)] += 1
    grid = Grid(made)
    counted = grid.split(grid.counts(np.array(later)[:, None], np.array(later)).tolist())
    assert counted == [tuple(expected), tuple(expected)]


def test_counting_apart_and_adding_up_is_counting_together_in_any_order() -> None:
    matrix, scores = drawn(900, 5)
    grid = Grid(TRAINED)
    whole = grid.counts(matrix, scores)
    order = np.random.default_rng(1).permutation(900)
    parts = np.array_split(order, [17, 17, 400])
    assert sum(grid.counts(matrix[part], scores[part]) for part in parts).tolist() == whole.tolist()
    assert whole.tolist() == grid.counts(matrix[order], scores).tolist()
    assert whole.sum() == 900 * (len(NAMES) + 1)


@pytest.mark.parametrize("effect", [0.0, 0.25])
def test_what_did_not_change_is_called_drifted_less_often_than_alpha(effect: float) -> None:
    """Effect 0: by chance alone. 400 windows of six features, at most 5 % of which may have a false alarm."""
    limits = Limits(decisions=500, effect=max(effect, 1e-9), alpha=0.05)
    alarms = 0
    for seed in range(1, 401):
        found = compared(TRAINED, *drawn(600, seed), limits)
        alarms += any(each.verdict == "drifted" for each in found.values())
    assert alarms <= (0 if effect else 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95))


def test_what_moved_is_found_and_nothing_else() -> None:
    for seed in range(20):
        found = compared(TRAINED, *drawn(600, 100 + seed, shift=0.7), Limits())
        assert {name for name, each in found.items() if each.verdict == "drifted"} == {"share"}
        found = compared(TRAINED, *drawn(600, 100 + seed, rate=0.6), Limits())
        assert {name for name, each in found.items() if each.verdict == "drifted"} == {"flag"}


def test_a_feature_that_was_always_the_same_drifts_to_either_side() -> None:
    matrix, scores = drawn(600, 3)
    for value in (6.9, 7.1):
        matrix[:, 4] = value
        assert compared(TRAINED, matrix, scores, Limits())["always"].verdict == "drifted"
    matrix[:, 4] = 7.0 + 1e-12
    assert compared(TRAINED, matrix, scores, Limits())["always"].verdict == "stable"


def test_few_decisions_say_nothing_however_different_they_are() -> None:
    matrix, scores = drawn(499, 3, shift=5)
    found = compared(TRAINED, matrix, scores, Limits(decisions=500))
    assert {each.verdict for each in found.values()} == {"too_few"}
    assert found["share"].effect is not None
    assert found["share"].effect > 1
    found = compared(TRAINED, *drawn(500, 3, shift=5), Limits(decisions=500))
    assert found["share"].verdict == "drifted"
    none = compared(TRAINED, matrix[:0], scores[:0], Limits(decisions=1))
    assert {(each.n, each.effect, each.p, each.verdict) for each in none.values()} == {
        (0, None, None, "too_few")
    }


def test_fewer_scores_than_decisions_are_too_few_by_themselves() -> None:
    matrix, scores = drawn(600, 3)
    found = compared(TRAINED, matrix, scores[:100], Limits())
    assert found[SCORE].verdict == "too_few"
    assert {each.verdict for name, each in found.items() if name != SCORE} == {"stable"}


def test_a_large_number_with_a_small_effect_has_not_drifted() -> None:
    """Chance cannot explain it, but it does not matter."""
    found = compared(TRAINED, *drawn(100_000, 4, shift=0.1), Limits())["share"]
    assert found.p is not None
    assert found.effect is not None
    assert found.p < 1e-6
    assert found.effect < 0.05
    assert found.verdict == "stable"


def test_a_large_effect_that_chance_explains_has_not_drifted() -> None:
    found = compared(TRAINED, *drawn(12, 11, rate=0.62), Limits(decisions=10))["flag"]
    assert found.effect is not None
    assert found.effect >= 0.25
    assert found.verdict == "stable"


def test_the_index_is_the_sum_over_bins_and_finite_where_one_is_empty() -> None:
    by_hand = (0.7 - 0.5) * math.log(0.7 / 0.5) + (0.3 - 0.5) * math.log(0.3 / 0.5)
    assert drift.psi([500_000, 500_000], [700_000, 300_000]) == pytest.approx(by_hand, abs=1e-5)
    assert drift.psi([10, 20, 30], [10, 20, 30]) == 0
    assert 1 < drift.psi([1_000, 0], [0, 1_000]) < 100


@given(st.integers(1, 30), st.floats(0, 3_000))
def test_the_chance_is_that_of_chi_square(degrees: int, x: float) -> None:
    assert drift.chi_square(x, degrees) == pytest.approx(chi2.sf(x, degrees), abs=1e-12)


@given(st.lists(st.tuples(st.integers(200, 1_000), st.integers(200, 1_000)), min_size=2, max_size=10))
def test_the_chance_of_two_samples_is_that_of_their_table(table: list[tuple[int, int]]) -> None:
    expected, observed = (list(column) for column in zip(*table, strict=True))
    known = chi2_contingency([expected, observed], correction=False).pvalue
    assert drift.chance(expected, observed) == pytest.approx(known, abs=1e-9)


def test_bins_with_few_are_pooled() -> None:
    assert drift.chance([1_000, 1_000, 2, 0, 1], [100, 100, 0, 1, 0]) == drift.chance(
        [1_000, 1_003], [100, 101]
    )
    assert drift.chance([3, 0], [0, 3]) == 1.0
    assert drift.chance([0, 0], [0, 3]) == 1.0


def test_chances_are_corrected_for_how_many_are_looked_at() -> None:
    assert drift.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert drift.holm([0.5, 0.9]) == [1.0, 1.0]
    assert drift.holm([]) == []


def test_a_reference_of_other_features_or_with_broken_bins_is_refused() -> None:
    good = (Bins("a", (0.0,), (1, 2)), Bins(SCORE, (0.5,), (1, 2)))
    assert drift.problem(Reference(good), ["a"]) is None
    assert "feature_names" in str(drift.problem(Reference(good), ["b"]))
    assert "feature_names" in str(drift.problem(Reference(()), ["a"]))
    for wrong in (
        Bins("a", (0.0,), (1,)),
        Bins("a", (1.0, 0.0), (1, 2, 3)),
        Bins("a", (1.0, 1.0), (1, 2, 3)),
    ):
        assert "of a" in str(drift.problem(Reference((wrong, good[1])), ["a"]))
    with pytest.raises(ValueError, match=SCORE):
        drift.reference([SCORE], np.zeros((2, 1)), np.zeros(2))
