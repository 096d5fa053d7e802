"""`make bench-check`: a ratio that fell too far fails, on a quiet machine of the same kind, and nothing else does."""

from __future__ import annotations

import pytest

from benchmarks.check import CONTENDERS, LIMITS, Limit, compare, conclude, other_machine, ratios
from benchmarks.throughput import Measured, Plan, Run
from tests.support.pages import table
from tests.support.sources import ROOT

COMMITTED = {limit.what: 2.0 for limit in LIMITS}
BETTER = {limit.what: 1.5 if limit.cpu else 3.0 for limit in LIMITS}


def slipped(limit: Limit, share: float) -> dict[str, float]:
    """All as committed, but one ratio worse by a share."""
    worse = 2.0 * (1 + share) if limit.cpu else 2.0 * (1 - share)
    return COMMITTED | {limit.what: worse}


def test_what_is_as_committed_or_better_fails_nothing() -> None:
    assert conclude(compare(COMMITTED, COMMITTED), []) == 0
    assert conclude(compare(COMMITTED, BETTER), []) == 0


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
def test_one_ratio_beyond_its_tolerance_fails(limit: Limit) -> None:
    beyond = compare(COMMITTED, slipped(limit, limit.tolerance + 0.02))
    assert [each.limit for each in beyond if each.failed] == [limit]
    assert conclude(beyond, []) == 1


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.what)
def test_one_ratio_within_its_tolerance_does_not(limit: Limit) -> None:
    assert conclude(compare(COMMITTED, slipped(limit, limit.tolerance - 0.02)), []) == 0


def test_noise_excuses_and_is_no_verdict() -> None:
    beyond = compare(COMMITTED, slipped(LIMITS[0], 0.9))
    assert conclude(beyond, ["the machine is noisy"]) == 0
    assert str(beyond[0]).startswith("FAILED ")


def test_what_nobody_committed_cannot_fail() -> None:
    found = compare({}, COMMITTED)
    assert conclude(found, []) == 0
    assert all("nothing committed" in str(each) for each in found)


def test_a_ratio_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(KeyError):
        compare(COMMITTED, {})


def test_ratios_of_another_kind_of_machine_are_excused() -> None:
    here = {"cpus": 2, "python": "3.11.9"}
    assert other_machine({"cpus": 2, "python": "3.11.2"}, here) == []
    assert other_machine({"cpus": 8, "python": "3.11.2"}, here) == ["committed on 8 (cpus), here 2"]
    assert other_machine({"cpus": 2, "python": "3.12.1"}, here)


def test_ratios_are_of_cpu_where_the_limit_says_so() -> None:
    bare, other = Run(1000, 1.0, 0.010), Run(1000, 0.5, 0.030)
    runs = {name: [other, other] for name in CONTENDERS.split(",")} | {"bare": [bare, bare]}
    found = ratios(Measured(Plan(1000, 0, 2, 4, 50.0, None), 1.0, runs))
    assert found["lane over bare: CPU"] == pytest.approx([3.0, 3.0])
    assert found["lane over bare: rate"] == pytest.approx([2.0, 2.0])


def test_the_short_form_runs_whom_it_compares() -> None:
    assert {name for limit in LIMITS for name in (limit.name, limit.base)} == set(CONTENDERS.split(","))


def test_the_tolerances_in_the_page_are_these() -> None:
    shown = table(ROOT / "docs" / "performance.md", "ratio")
    assert shown == [[limit.what, f"{limit.tolerance * 100:.0f} %"] for limit in LIMITS]
