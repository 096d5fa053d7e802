"""The training recipe: splits, leaks, and that the same data gives the same model."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.agents.documentation_keeper import train as recipe
from pointsman.models.agents.documentation_keeper.dataset import dataset
from pointsman.models.agents.documentation_keeper.history import HistoryError, read_commits
from pointsman.models.agents.documentation_keeper.measure import THRESHOLD
from pointsman.models.artifact import Calibration, calibrated, load_card
from pointsman.models.ml import MlDecider
from tests.support.histories import learnable, line, write_lines

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def commits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("commits") / "commits.jsonl.gz", learnable())


@pytest.fixture(scope="module")
def trained(commits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "model"
    assert AGENT.train is not None
    AGENT.train(commits, out, now=NOW)
    return out


def test_it_learns_what_can_be_learned(trained: Path) -> None:
    card = load_card(trained)
    assert card.metrics.ml.balanced_accuracy.low > 0.7
    decider = MlDecider.load(trained, AGENT.predictions)
    lines = read_commits(write_lines(trained.parent / "two.jsonl", _two()))
    found = decider.decide(AGENT.rows([commit.request for commit in lines]))
    assert [answer.prediction for answer in found] == ["docs_needed", "docs_not_needed"]


def _two() -> list[dict[str, object]]:
    files = [{"p": "src/app/core.py", "a": 10, "r": 2}, {"p": "src/app/cli.py", "a": 50, "r": 0, "s": "A"}]
    return [line(1, subject="Add option for retries", files=files), line(2, subject="Fix crash in parser")]


def test_the_card_says_what_it_is(trained: Path, commits: Path) -> None:
    card = load_card(trained)
    assert (card.agent, card.version, card.trained_at) == ("documentation-keeper", "2026.11.1", NOW)
    assert card.data.sha256 == hashlib.sha256(commits.read_bytes()).hexdigest()
    assert card.data.rows == card.data.trained_on + card.data.calibrated_on + card.data.tested_on == 1000
    assert card.model_sha256 == hashlib.sha256((trained / card.model_file).read_bytes()).hexdigest()
    assert card.feature_names == AGENT.feature_names
    assert [c.chosen for c in card.candidates].count(True) == 1
    assert card.metrics.never.balanced_accuracy.value == 0.5
    assert card.reference is not None
    assert {sum(bins.counts) for bins in card.reference.bins} == {card.data.trained_on}


def test_the_same_data_gives_the_same_model_bytes(trained: Path, commits: Path, tmp_path: Path) -> None:
    name = recipe.train(commits, tmp_path / "again", now=NOW).model_file
    assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_parts_follow_time_within_each_repository(commits: Path) -> None:
    data = dataset(read_commits(commits))
    for name in np.unique(data.repository):
        part = data.part[data.repository == name]
        assert sorted(part.tolist()) == part.tolist()
        assert [int((part == n).sum()) for n in (0, 1, 2)] == [275, 75, 150]


def test_a_landing_unit_never_spans_two_parts(tmp_path: Path) -> None:
    lines = learnable(repositories=1, commits=600)
    for number, one in enumerate(lines):
        one["land"] = f"{number // 7:010x}"
    used = [c for c in read_commits(write_lines(tmp_path / "c.jsonl", lines)) if c.in_domain]
    data = dataset(used)
    parts: dict[str, set[int]] = {}
    for commit, part in zip(used, data.part.tolist(), strict=True):
        parts.setdefault(commit.land, set()).add(part)
    assert all(len(found - {-1}) == 1 for found in parts.values())
    assert 0 < int((data.part == -1).sum()) < 14


def test_commits_out_of_the_domain_are_not_used(tmp_path: Path) -> None:
    lines = learnable(commits=300)
    outside = [line(n, y={"dom": 0, "same": [], "land": ["docs"]}) for n in range(100)]
    with_them = dataset(read_commits(write_lines(tmp_path / "a.jsonl", [*outside, *lines])))
    without = dataset(read_commits(write_lines(tmp_path / "b.jsonl", lines)))
    assert with_them.rows == without.rows


def test_documentation_in_the_files_teaches_nothing(tmp_path: Path, commits: Path) -> None:
    lines = learnable()
    for one in lines:
        one["files"] = [file for file in one["files"] if not file["p"].startswith("docs/")]
        one["subject"] = one["subject"] + (" (docs)" if one["y"]["land"] else "")
    stripped = dataset(read_commits(write_lines(tmp_path / "c.jsonl", lines)))
    assert stripped.rows == dataset(read_commits(commits)).rows


@pytest.mark.parametrize("count", [0, 30])
def test_too_little_data_is_refused(tmp_path: Path, count: int) -> None:
    file = write_lines(tmp_path / "few.jsonl", learnable(repositories=1, commits=count))
    with pytest.raises(HistoryError, match=r"nothing to learn from|read more commits"):
        recipe.train(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_calibration_finds_the_line_that_bent_the_scores() -> None:
    random = np.random.default_rng(5)
    honest = random.uniform(0.05, 0.95, 20_000)
    truth = random.random(20_000) < honest
    odds = np.log(honest / (1 - honest))
    bent = 1 / (1 + np.exp(-(odds - 0.4) / 0.6))
    found = recipe.fit_calibration(bent, truth, np.ones(len(truth)))
    assert found.slope == pytest.approx(0.6, abs=0.05)
    assert found.intercept == pytest.approx(0.4, abs=0.05)
    assert np.abs(calibrated(bent, found) - honest).mean() < 0.01


def test_calibration_of_perfect_scores_stays_finite() -> None:
    truth = np.array([True, False] * 20)
    found = recipe.fit_calibration(np.where(truth, 1.0, 0.0), truth, np.ones(len(truth)))
    assert np.isfinite([found.slope, found.intercept]).all()


def test_scores_at_the_threshold_are_those_that_were_even() -> None:
    line = recipe.at_threshold(Calibration(0.7, 0.2))
    raw = np.array([0.05, 0.4, 0.6, 0.95])
    even, moved = calibrated(raw, Calibration(0.7, 0.2)), calibrated(raw, line)
    assert (moved >= THRESHOLD).tolist() == (even >= 0.5).tolist() == [False, False, True, True]
    share = even * THRESHOLD / (even * THRESHOLD + (1 - even) * (1 - THRESHOLD))
    assert moved == pytest.approx(share, abs=1e-6)


def test_the_card_says_both_arms_with_every_order_of_labels(trained: Path) -> None:
    card = load_card(trained)
    assert card.macro is not None and card.first is not None and card.told_late is not None
    assert card.first.groups == card.told_late.groups == card.macro.groups == 2
    assert card.curves is not None
    assert sum(each.n for each in card.curves.rules) == sum(each.n for each in card.curves.ml)


def test_a_dearer_estimator_must_gain_to_be_chosen() -> None:
    def fitted(name: str, loss: float) -> recipe._Fitted:
        return recipe._Fitted(name, None, Calibration(1, 0), np.empty(0), loss, 1.0)

    assert recipe.choose([fitted("cheap", 0.500), fitted("dear", 0.498)]).name == "cheap"
    assert recipe.choose([fitted("cheap", 0.500), fitted("dear", 0.480)]).name == "dear"
