"""The shipped model: it loads only whole and unchanged, scores alike in any batch, and explains itself."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from pointsman.models import artifact, drift, estimators
from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.artifact import Calibration, Card, ModelArtifactError, Probe, load_card, load_scorer
from pointsman.models.confidence import judge
from pointsman.models.ml import (
    BadModelOutput,
    MlDecider,
    Scoring,
    answers_from_scores,
    answers_of_all,
)

assert AGENT.model is not None
MODEL: Path = AGENT.model
CARD = load_card(MODEL)
ROWS = AGENT.rows([msgspec.convert(example, AGENT.input_type) for example in AGENT.examples])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def rewrite(folder: Path, **changes: Any) -> None:
    card = msgspec.structs.replace(load_card(folder), **changes)
    (folder / "card.json").write_bytes(msgspec.json.encode(card))


def replace_model(folder: Path, estimator: Any) -> None:
    data = estimators.dump(estimator)
    (folder / estimators.FILE).write_bytes(data)
    rewrite(folder, model_file=estimators.FILE, model_sha256=hashlib.sha256(data).hexdigest())


def linear(features: int = 3) -> Any:
    random = np.random.default_rng(1)
    x = random.normal(size=(200, features))
    return LogisticRegression().fit(x, x[:, 0] + x[:, 1] > 0)


def boosted() -> Any:
    random = np.random.default_rng(1)
    x = random.normal(size=(500, 3))
    return HistGradientBoostingClassifier(max_iter=7, random_state=0).fit(x, x[:, 0] * x[:, 1] > 0)


def linear_card(features: int = 3, **changes: Any) -> Card:
    names = tuple(f"f{i}" for i in range(features))
    card = msgspec.structs.replace(
        CARD,
        feature_names=names,
        medians=(0.0,) * features,
        calibration=Calibration(1.0, 0.0),
        probes=[],
        reference=None,
    )
    return msgspec.structs.replace(card, **changes)


def test_the_shipped_model_belongs_to_its_agent_and_loads() -> None:
    assert CARD.agent == AGENT.name
    assert CARD.feature_names == AGENT.feature_names
    assert CARD.feature_version == AGENT.feature_version
    load_scorer(MODEL)


def test_the_shipped_files_are_small() -> None:
    assert sum(file.stat().st_size for file in MODEL.iterdir()) < 1_000_000


def test_the_shipped_model_beats_rules_that_know_the_same_past_on_the_same_decisions() -> None:
    difference = CARD.metrics.ml_minus_rules
    assert difference.balanced_accuracy.low > 0
    assert difference.success.low > 0
    assert CARD.macro is not None
    assert CARD.macro.second.value >= 0.72
    assert CARD.macro.second_minus_first.low > 0
    assert CARD.left_out is not None
    assert min(CARD.left_out.macro.second.value, CARD.left_out.newest.second.value) >= 0.68
    assert CARD.metrics.ml.n == CARD.metrics.rules.n == CARD.data.tested_on
    assert CARD.metrics.rules.success.value > max(
        CARD.metrics.always.success.value, CARD.metrics.never.success.value
    )


def test_reading_the_card_imports_no_scikit_learn() -> None:
    code = (
        "import sys; from pathlib import Path; from pointsman.models.artifact import load_card;"
        "from pointsman.models.registry import load_agents; import pointsman.models.ml, pointsman.models.conformance;"
        "[load_card(a.model) for a in load_agents().values() if a.model];"
        "sys.exit(any(name in sys.modules for name in ('sklearn', 'skops', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_changed_model_file_is_refused(folder: Path) -> None:
    data = bytearray((folder / CARD.model_file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / CARD.model_file).write_bytes(data)
    with pytest.raises(ModelArtifactError, match=r"model\.onnx: checksum"):
        load_scorer(folder)


@pytest.mark.parametrize("name", ["card.json", CARD.model_file])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelArtifactError, match=f"{name}: cannot be read") as caught:
        load_scorer(folder)
    assert caught.value.file == folder / name


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b'{"agent": 3}'])
def test_a_card_that_is_none_is_refused(folder: Path, text: bytes) -> None:
    (folder / "card.json").write_bytes(text)
    with pytest.raises(ModelArtifactError, match="is no model card"):
        load_card(folder)


def test_a_reference_of_other_features_is_refused(folder: Path) -> None:
    reference = drift.reference(CARD.feature_names, np.zeros((3, len(CARD.feature_names))), np.zeros(3))
    rewrite(folder, reference=reference)
    assert load_card(folder).reference == reference
    rewrite(folder, reference=drift.Reference(reference.bins[1:]))
    with pytest.raises(ModelArtifactError, match="reference is not of feature_names"):
        load_card(folder)


def test_types_that_are_not_trusted_are_named_and_never_built(folder: Path) -> None:
    replace_model(folder, FunctionTransformer(func=subprocess.check_output))
    with pytest.raises(ModelArtifactError, match=r"not trusted: .*check_output"):
        load_scorer(folder)


def test_a_model_file_outside_of_its_folder_is_refused(folder: Path) -> None:
    rewrite(folder, model_file=f"../{CARD.model_file}")
    with pytest.raises(ModelArtifactError, match="must be a name in the same folder"):
        load_card(folder)


def test_a_file_of_another_kind_is_refused(folder: Path) -> None:
    (folder / CARD.model_file).write_bytes(b"junk")
    rewrite(folder, model_sha256=hashlib.sha256(b"junk").hexdigest())
    with pytest.raises(ModelArtifactError, match="is no ONNX file"):
        load_scorer(folder)


def test_a_model_of_other_features_is_refused(folder: Path) -> None:
    replace_model(folder, linear(3))
    with pytest.raises(ModelArtifactError, match="expects 3 features, its card names 40"):
        load_scorer(folder)


def test_a_library_that_computes_otherwise_is_found_by_the_probes(folder: Path) -> None:
    probes = [Probe(CARD.probes[0].row, CARD.probes[0].score + 0.01), *CARD.probes[1:]]
    rewrite(folder, probes=probes)
    with pytest.raises(ModelArtifactError, match=r"scores its probes otherwise, by up to 0\.01"):
        load_scorer(folder)
    rewrite(folder, probes=[])
    with pytest.raises(ModelArtifactError, match="no probes"):
        load_scorer(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.skops"])
def test_what_was_saved_is_what_is_loaded(tmp_path: Path, name: str) -> None:
    model = boosted() if name == "model.onnx" else linear()
    card = linear_card()
    x = np.random.default_rng(2).normal(size=(50, 3))
    scorer = artifact.Scorer(model, card)
    probes = [
        Probe(tuple(row), score) for row, score in zip(x.tolist(), scorer.score(x).tolist(), strict=True)
    ]
    saved = artifact.save(tmp_path / "new" / "model", msgspec.structs.replace(card, probes=probes), model)
    assert saved.model_file == name
    assert load_card(tmp_path / "new" / "model") == saved
    assert load_scorer(tmp_path / "new" / "model").score(x).tolist() == scorer.score(x).tolist()


@pytest.mark.parametrize("make", [boosted, linear])
def test_saving_the_same_model_twice_gives_the_same_bytes(tmp_path: Path, make: Callable[[], Any]) -> None:
    saved = [artifact.save(tmp_path / name, CARD, make()).model_sha256 for name in ("a", "b")]
    assert saved[0] == saved[1]


def test_serving_trees_needs_no_scikit_learn() -> None:
    code = (
        "import sys; from pathlib import Path; from pointsman.models.artifact import load_scorer;"
        "load_scorer(Path(sys.argv[1])); sys.exit(any(name in sys.modules for name in ('sklearn', 'skops', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(MODEL)], check=False).returncode == 0


@settings(max_examples=20)  # each one asks the real model
@given(st.data())
def test_a_score_depends_on_its_row_alone(data: st.DataObject) -> None:
    scorer = _scorer()
    rows = data.draw(st.lists(st.sampled_from(CARD.probes), min_size=1, max_size=40))
    found = scorer.score(np.array([probe.row for probe in rows]))
    assert found.tolist() == [probe.score for probe in rows]


def test_an_empty_batch_has_no_scores_and_another_shape_is_an_error() -> None:
    assert _scorer().score(np.empty((0, 40))).tolist() == []
    with pytest.raises(ValueError, match=r"expected shape \(n, 40\)"):
        _scorer().score(np.zeros((2, 3)))


def _scorer(cache: list[artifact.Scorer] = []) -> artifact.Scorer:  # noqa: B006  loaded once
    if not cache:
        cache.append(load_scorer(MODEL))
    return cache[0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -0.001, 1.001])
def test_a_score_that_is_no_probability_is_bad_output(bad: float) -> None:
    with pytest.raises(BadModelOutput, match="score 1 is"):
        answers_from_scores(CARD, AGENT.predictions, [0.5, bad, 0.5])


@pytest.mark.parametrize("bad", [[[0.5]], 0.5, ["x"], None, [None]])
def test_an_answer_of_another_shape_is_bad_output(bad: Any) -> None:
    with pytest.raises(BadModelOutput):
        answers_from_scores(CARD, AGENT.predictions, bad)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_scores_is_bad_output(count: int) -> None:
    with pytest.raises(BadModelOutput, match="shape"):
        answers_from_scores(CARD, AGENT.predictions, [0.5, 0.5], count)


@given(st.lists(st.floats(0, 1), max_size=20))
def test_answers_follow_threshold_and_confidence(scores: list[float]) -> None:
    answers = answers_from_scores(CARD, AGENT.predictions, scores, len(scores))
    for score, answer in zip(scores, answers, strict=True):
        positive, confidence = judge(score, CARD.threshold)
        assert answer.prediction == AGENT.predictions[positive]
        assert abs(answer.confidence - confidence) < 2e-6
        assert answer.decider == f"ml@{CARD.version}"
        assert type(answer.score) is float


MODELS = st.builds(
    Scoring,
    card=st.sampled_from([0.02, 0.5, 0.9]).map(
        lambda threshold: msgspec.structs.replace(CARD, threshold=threshold, version=f"of {threshold}")
    ),
    predictions=st.sampled_from([("no", "yes"), ("keep", "drop")]),
    scores=st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.02, 0.5, 0.9, 1.0])), max_size=8)
    | st.sampled_from([[float("nan")], [0.5, -0.1], [1.5], ["x"], [[0.5]]]),
    rows=st.sampled_from([None, 1, 3]),
)


@given(st.lists(MODELS, max_size=6))
def test_models_whose_answers_are_made_together_answer_as_each_alone(scorings: list[Scoring]) -> None:
    found = answers_of_all(scorings)
    assert len(found) == len(scorings)
    for scoring, answers in zip(scorings, found, strict=True):
        if isinstance(answers, BadModelOutput):
            with pytest.raises(BadModelOutput, match=re.escape(str(answers))):
                answers_from_scores(*scoring)
        else:
            assert answers == answers_from_scores(*scoring)


def test_the_decider_answers_as_its_parts_do() -> None:
    decider = MlDecider.load(MODEL, AGENT.predictions)
    scores = _scorer().score(np.array(ROWS))
    assert decider.decide(ROWS) == answers_from_scores(CARD, AGENT.predictions, scores)
    assert decider.decide([]) == []


def test_a_linear_model_is_explained_exactly() -> None:
    model, card = linear(), linear_card(medians=(0.1, 0.2, 0.3))
    row = (1.0, -0.5, 0.7)
    effects = MlDecider(card, artifact.Scorer(model, card), AGENT.predictions).explain(row)
    for i, name in enumerate(card.feature_names):
        assert effects[name] == pytest.approx(model.coef_[0][i] * (row[i] - card.medians[i]), abs=1e-5)
    assert [abs(v) for v in effects.values()] == sorted((abs(v) for v in effects.values()), reverse=True)


def test_a_row_at_the_medians_has_nothing_to_explain() -> None:
    effects = MlDecider.load(MODEL, AGENT.predictions).explain(CARD.medians)
    assert set(effects) == set(AGENT.feature_names)
    assert not any(effects.values())


def test_calibration_stretches_and_moves_log_odds() -> None:
    found = artifact.calibrated(np.array([0.2, 0.8]), Calibration(2.0, 0.5))
    odds = np.log(found / (1 - found))
    assert odds.tolist() == pytest.approx([2 * log(0.25) + 0.5, 2 * log(4) + 0.5])
