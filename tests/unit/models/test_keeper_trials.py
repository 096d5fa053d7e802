"""The evaluation: repositories left out are unseen, small ones leave the means, importances find what matters."""

from __future__ import annotations

import numpy as np
import pytest

from pointsman.models.agents.documentation_keeper import trials
from pointsman.models.agents.documentation_keeper.dataset import TESTS, Bools, Dataset, Floats, dataset
from pointsman.models.agents.documentation_keeper.features import NAMES
from pointsman.models.agents.documentation_keeper.history import read_commits
from pointsman.models.agents.documentation_keeper.measure import THRESHOLD
from tests.support.histories import learnable, write_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    file = tmp_path_factory.mktemp("commits") / "commits.jsonl"
    return dataset(read_commits(write_lines(file, learnable(repositories=10, commits=200))))


def by_option(matrix: Floats) -> Floats:
    return np.where(matrix[:, NAMES.index("subject_feature")] > 0, 0.9, 0.1)


def test_a_repository_is_scored_without_having_been_trained_on(data: Dataset) -> None:
    asked = []

    def fit(data: Dataset, first: Bools, later: Bools) -> Floats:
        asked.append(set(data.repository[first].tolist()) | set(data.repository[later].tolist()))
        return by_option(data.matrix)

    found = trials.left_out(data, fit)
    assert found is not None
    names = set(data.repository.tolist())
    assert [len(names - each) for each in asked] == [2] * trials.FOLDS
    assert set.union(*(names - each for each in asked)) == names
    assert found.macro.second.value > 0.75


def test_few_repositories_are_not_left_out(data: Dataset) -> None:
    assert trials.left_out(data._replace(repository=np.full(len(data.truth), "one")), lambda *_: None) is None  # type: ignore[arg-type,return-value]


def test_only_what_is_used_is_important(data: Dataset) -> None:
    first, *others = trials.importances(data, by_option, 0)
    assert first.feature == "subject_feature"
    assert first.low > 0.1
    assert {each.loss for each in others} == {0.0}


def test_a_dearer_miss_finds_more_and_is_right_less_often(data: Dataset) -> None:
    scores = np.round(np.random.default_rng(1).random(len(data.truth)) * 0.5 + data.truth * 0.3, 6)
    table = trials.trade_off(data, scores)
    assert [row.found for row in table] == sorted(row.found for row in table)
    assert [row.right for row in table] == sorted((row.right for row in table), reverse=True)
    assert THRESHOLD in [row.threshold for row in table]


def test_a_repository_with_few_of_a_class_leaves_the_means(data: Dataset) -> None:
    everything = np.ones(len(data.truth), bool)
    scores = by_option(data.matrix)
    assert trials.macro(data, scores, everything, resampled="clusters").groups == 10
    mine = data.repository == "example/r0"
    truth = data.truth.copy()
    truth[np.flatnonzero(mine & truth)[trials.CLASS_MIN - 1 :]] = False
    fewer = trials.macro(data._replace(truth=truth), scores, everything, resampled="clusters")
    assert fewer.groups == 9


def test_honest_scores_lie_on_the_line_whatever_share_a_repository_has(data: Dataset) -> None:
    """Half of the positives of one repository are taken out, and nearly all negatives of the other."""
    random = np.random.default_rng(2)
    count = 60_000
    scores = random.beta(2, 5, count)  # 2 of 7 on average, as scores speak
    truth = random.random(count) < scores
    groups = random.choice(["few", "many"], count)
    kept = random.random(count) < np.where(truth & (groups == "few"), 0.5, 1.0)
    kept &= random.random(count) < np.where(~truth & (groups == "many"), 0.1, 1.0)
    some = data._replace(
        rows=data.rows[:1] * int(kept.sum()),
        truth=truth[kept],
        repository=groups[kept],
        part=np.full(int(kept.sum()), TESTS, np.int8),
    )
    weight = trials.class_weights(some, some.part == TESTS, THRESHOLD)
    assert weight[some.truth].sum() / weight.sum() == pytest.approx(THRESHOLD)
    curve = trials.curves(some, scores[kept]).ml
    assert sum(each.n for each in curve) == len(some.truth)
    for each in curve[:7]:
        assert each.share_positive == pytest.approx(each.mean_score, abs=0.04)


def test_the_first_decision_of_each_landing_is_found() -> None:
    groups = np.array(["a", "a", "b", "a", "b"])
    landings = np.array(["1", "1", "1", "2", "1"])
    assert trials.firsts(groups, landings).tolist() == [True, False, True, True, False]
