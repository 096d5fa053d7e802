"""Live figures, as far as they need no Faust: what a table keeps can be read again, merging adds, figures are right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas.latency import bucket
from pointsman.schemas.summary import ArmSummary
from pointsman.streams.decisions.tally import Tally, merge
from pointsman.streams.live import describe, dump, load

counts = st.integers(0, 10**6)
arms = st.builds(
    ArmSummary,
    agent=st.just("small"),
    arm=st.just("control"),
    decisions=counts,
    by_ml=counts,
    fallbacks=st.dictionaries(st.sampled_from(["busy", "model_timeout"]), counts),
    validations=counts,
    escalations=counts,
    confidence_sum=st.integers(0, 10**6).map(float),
    both_answered=counts,
    agreements=counts,
    latency=st.dictionaries(st.integers(0, 900), counts, max_size=5),
    latency_sum_ms=st.integers(0, 10**6).map(float),
)


@given(arms)
def test_what_a_table_keeps_is_json_and_can_be_read_again(arm: ArmSummary) -> None:
    assert load(json.loads(json.dumps(dump(arm)))) == arm


@pytest.mark.parametrize("nothing", [None, {}])
def test_an_empty_window_is_none(nothing: dict[str, object] | None) -> None:
    assert load(nothing) is None


def copy(arm: ArmSummary) -> ArmSummary:
    copied = load(json.loads(json.dumps(dump(arm))))
    assert copied is not None
    return copied


@given(arms, arms)
def test_merging_adds_every_field(a: ArmSummary, b: ArmSummary) -> None:
    both = copy(a)
    merge(both, b)
    for name in ArmSummary.__struct_fields__:
        left, right, total = getattr(a, name), getattr(b, name), getattr(both, name)
        if name in ("agent", "arm"):
            assert total == left
        elif isinstance(left, dict):
            assert total == {key: left.get(key, 0) + right.get(key, 0) for key in {**left, **right}}
        else:
            assert total == left + right, name


@given(arms, arms, arms)
def test_merging_in_any_order_gives_the_same(a: ArmSummary, b: ArmSummary, c: ArmSummary) -> None:
    left, right = copy(a), copy(c)
    merge(left, b)
    merge(left, c)
    merge(right, a)
    merge(right, b)
    assert left == right


def test_a_tally_adds_batches_by_agent_and_arm_and_is_empty_once_published() -> None:
    tally = Tally("decisions", 0.0)
    for agent, arm, count in (
        ("a", "candidate", 1),
        ("a", "control", 2),
        ("a", "candidate", 4),
        ("b", "control", 8),
    ):
        tally.add({"x": ArmSummary(agent=agent, arm=arm, decisions=count)})  # type: ignore[arg-type]
    assert {key: each.decisions for key, each in tally.arms.items()} == {
        ("a", "candidate"): 5,
        ("a", "control"): 2,
        ("b", "control"): 8,
    }
    assert [key for key, _, _ in tally.messages()] == [b"a", b"b"]
    assert tally.due() == 0.0
    tally.published()
    assert tally.due() is None
    assert tally.messages() == []


def test_figures_are_means_shares_and_quantiles() -> None:
    arm = ArmSummary(
        agent="small",
        arm="candidate",
        decisions=4,
        by_ml=3,
        fallbacks={"busy": 1},
        confidence_sum=3.0,
        both_answered=3,
        agreements=2,
        latency={bucket(10.0): 3, bucket(200.0): 1},
    )
    figures = describe(arm)
    assert (figures["decisions"], figures["by_ml"], figures["fallbacks"]) == (4, 3, {"busy": 1})
    assert (figures["confidence_mean"], figures["agreement"]) == (0.75, 0.6667)
    assert figures["latency_p50_ms"] == pytest.approx(10, rel=0.01)
    assert figures["latency_p99_ms"] == pytest.approx(200, rel=0.01)


def test_figures_of_nothing_divide_by_nothing() -> None:
    figures = describe(ArmSummary(agent="small", arm="control"))
    assert figures["confidence_mean"] is None
    assert figures["agreement"] is None
    assert figures["latency_p95_ms"] is None
