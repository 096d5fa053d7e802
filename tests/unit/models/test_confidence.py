"""Confidence relative to a threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.confidence import judge, judge_all, rounded, shifted

probability = st.floats(0, 1)
threshold = st.floats(0.01, 0.99).map(rounded)


@given(probability, threshold)
def test_positive_from_the_threshold_on_and_confidence_never_below_a_half(p: float, t: float) -> None:
    positive, confidence = judge(p, t)
    assert positive == (rounded(p) >= t)
    assert 0.5 <= confidence <= 1


@given(probability, probability, threshold)
def test_a_higher_probability_never_has_a_lower_shifted_one(p: float, q: float, t: float) -> None:
    low, high = sorted((p, q))
    assert shifted(low, t) <= shifted(high, t) + 1e-12


@given(threshold)
def test_at_the_threshold_it_is_a_coin(t: float) -> None:
    assert judge(t, t) == (True, 0.5)


@given(probability)
def test_at_a_threshold_of_a_half_nothing_is_shifted(p: float) -> None:
    assert shifted(p, 0.5) == pytest.approx(p)


def test_a_score_just_below_by_noise_is_at_the_threshold() -> None:
    assert judge(0.3 - 1e-9, 0.3)[0] is True


def test_known_values() -> None:
    assert judge(0.5, 0.2) == (True, 0.8)  # odds 1 over odds 1/4
    assert judge(0.0, 0.2) == (False, 1.0)


@given(st.lists(probability, min_size=1, max_size=30), threshold)
def test_the_array_form_agrees_with_the_single_one(ps: list[float], t: float) -> None:
    scores = [rounded(p) for p in ps]
    positive, confidence = judge_all(np.array(scores), t)
    assert positive.tolist() == [judge(p, t)[0] for p in scores]
    assert confidence.tolist() == pytest.approx([judge(p, t)[1] for p in scores], abs=1.1e-6)
