"""The training recipe: commits in, a calibrated model with its card out. Same data, same model bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from math import log
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from pointsman.models import artifact, drift
from pointsman.models.agents.documentation_keeper import features, rules, trials
from pointsman.models.agents.documentation_keeper.dataset import (
    CALIBRATES,
    LEFT_OUT,
    TESTS,
    TRAINS,
    Bools,
    Dataset,
    Floats,
    dataset,
)
from pointsman.models.agents.documentation_keeper.history import read_commits
from pointsman.models.agents.documentation_keeper.measure import COSTS, PREDICTIONS, THRESHOLD
from pointsman.models.artifact import Calibration, Candidate, Card

AGENT_NAME: Final = "documentation-keeper"
GAIN_MIN: Final = 0.01
"""A dearer estimator must lower the log loss by this share: the model process shares two cores with the lane."""
SMOOTHING: Final = 20
"""Commits added to each class of a repository before it is weighted, so that three positives do not count like three hundred."""
EVEN: Final = 0.5
"""The share of the positive class at which estimators learn and lines are fitted, so that no repository's own share counts."""
BATCH: Final = 500
PROBES: Final = 24

Progress = Callable[[str], None]


class _Fitted(NamedTuple):
    name: str
    estimator: Any
    calibration: Calibration
    scores: Floats
    log_loss: float
    microseconds: float
    is_trees: bool = True


def train(
    commits: Path,
    out: Path,
    *,
    version_name: str | None = None,
    now: datetime | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Card:
    """Read ``commits`` (JSON Lines, gzip or not), write ``out/card.json`` and the model beside it; the card.

    ``version_name`` defaults to the year and month of ``now`` (default: the wall clock) and 1. Raises
    `HistoryError` where the file cannot be read or holds too little.
    """
    now = now or datetime.now(UTC)
    progress("reading commits")
    data = dataset(read_commits(commits))
    progress(f"{len(data.rows)} decisions of {len(set(data.repository.tolist()))} repositories")
    fitted = _fit_all(data, seed, progress)
    chosen = choose(fitted)
    progress(f"chosen: {chosen.name}")
    chosen = _refitted(chosen, data, seed)
    slim(chosen.estimator)
    card = _card(data, commits, fitted, chosen, name=version_name or f"{now:%Y}.{now.month}.1", now=now)
    card = _judged(card, data, chosen, commits, seed, progress)
    return artifact.save(out, card, chosen.estimator)


def _weights(data: Dataset, mask: Bools) -> Floats:
    """Classes count alike in each repository, and repositories by the root of their size.

    Unweighted, the largest repository decides, and whatever identifies a repository (its folder depth)
    is learned in place of what the change is like.
    """
    found = np.zeros(len(data.truth))
    for name in np.unique(data.repository[mask]):
        mine = mask & (data.repository == name)
        for positive in (True, False):
            of_class = mine & (data.truth == positive)
            found[of_class] = int(mine.sum()) ** 0.5 / (int(of_class.sum()) + SMOOTHING)
    return np.asarray(found[mask] / found[mask].mean())


def _estimators(seed: int) -> list[tuple[str, Any]]:
    """What is compared, cheapest to ask first."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import PowerTransformer  # noqa: PLC0415

    def boosted(trees: int, leaves: int, rate: float) -> Any:
        return HistGradientBoostingClassifier(
            max_iter=trees,
            max_leaf_nodes=leaves,
            learning_rate=rate,
            min_samples_leaf=100,
            l2_regularization=5.0,
            early_stopping=False,
            random_state=seed,
        )

    return [
        ("logistic regression", make_pipeline(PowerTransformer(), LogisticRegression(C=0.1, max_iter=500))),
        ("gradient boosting, 60 trees of 8 leaves", boosted(60, 8, 0.1)),
        ("gradient boosting, 40 trees of 24 leaves", boosted(40, 24, 0.15)),
        ("gradient boosting, 100 trees of 16 leaves", boosted(100, 16, 0.08)),
    ]


def _fit_all(data: Dataset, seed: int, progress: Progress) -> list[_Fitted]:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    fitted = []
    with threadpool_limits(limits=1):  # sums in one order: the same bytes on any number of cores
        for name, estimator in _estimators(seed):
            progress(f"fitting {name}")
            fitted.append(_fit(name, estimator, data))
    return fitted


def _fit(name: str, estimator: Any, data: Dataset) -> _Fitted:
    calibration, scores = _trained(estimator, data, data.part == TRAINS, data.part == CALIBRATES)
    later = data.part == CALIBRATES
    loss = log_loss(data.truth[later], scores[later], trials.class_weights(data, later, EVEN))
    return _Fitted(
        name,
        estimator,
        calibration,
        scores,
        loss,
        _microseconds(estimator, data.matrix),
        _is_trees(estimator),
    )


def _is_trees(estimator: Any) -> bool:
    return hasattr(estimator, "max_leaf_nodes")


def _trained(estimator: Any, data: Dataset, first: Bools, later: Bools) -> tuple[Calibration, Floats]:
    """Fit on the first and calibrate on the later decisions; the scores of all."""
    _learn(estimator, data, first)
    raw = estimator.predict_proba(data.matrix)[:, 1]
    calibration = fit_calibration(raw[later], data.truth[later], trials.class_weights(data, later, EVEN))
    return calibration, _scores(estimator, data.matrix, calibration)


def _learn(estimator: Any, data: Dataset, mask: Bools) -> None:
    keyword = f"{estimator.steps[-1][0]}__sample_weight" if hasattr(estimator, "steps") else "sample_weight"
    estimator.fit(data.matrix[mask], data.truth[mask], **{keyword: _weights(data, mask)})


def _scores(estimator: Any, matrix: Floats, calibration: Calibration) -> Floats:
    return np.round(artifact.calibrated(estimator.predict_proba(matrix)[:, 1], calibration), 6)


def _refitted(chosen: _Fitted, data: Dataset, seed: int) -> _Fitted:
    """Learned anew from both parts that it may know, as the rules' points were; its line stays."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    estimator = dict(_estimators(seed))[chosen.name]
    with threadpool_limits(limits=1):
        _learn(estimator, data, (data.part == TRAINS) | (data.part == CALIBRATES))
    calibration = at_threshold(chosen.calibration)
    scores = _scores(estimator, data.matrix, calibration)
    return chosen._replace(estimator=estimator, calibration=calibration, scores=scores)


def at_threshold(even: Calibration) -> Calibration:
    """The line for scores that speak of the share at which `THRESHOLD` lies, in place of `EVEN`."""
    return Calibration(even.slope, round(even.intercept + log(THRESHOLD / (1 - THRESHOLD)), 8))


def fit_calibration(raw: Floats, truth: Bools, weight: Floats) -> Calibration:
    """Platt's line through the log odds, by Newton's method (two parameters, so it settles in a few steps)."""
    clipped = np.clip(raw, 1e-9, 1 - 1e-9)
    design = np.column_stack([np.log(clipped / (1 - clipped)), np.ones(len(raw))])
    line = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(design @ line)))
        gradient = design.T @ (weight * (truth - p)) - 1e-6 * line
        hessian = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        line = line + np.clip(step, -1, 1)
        if float(np.abs(step).max()) < 1e-10:
            break
    return Calibration(round(float(line[0]), 8), round(float(line[1]), 8))


def log_loss(truth: Bools, scores: Floats, weight: Floats) -> float:
    """Mean negative log likelihood."""
    p = np.clip(scores, 1e-6, 1 - 1e-6)
    return float(-np.average(np.where(truth, np.log(p), np.log(1 - p)), weights=weight))


def _microseconds(estimator: Any, matrix: Floats) -> float:
    """Best of ten batches, a row's share."""
    batch = np.ascontiguousarray(matrix[:BATCH])
    best = float("inf")
    for _ in range(10):
        start = perf_counter()
        estimator.predict_proba(batch)
        best = min(best, perf_counter() - start)
    return best / len(batch) * 1e6


def choose(fitted: Sequence[_Fitted]) -> _Fitted:
    """The cheapest trees, unless dearer ones are better by more than `GAIN_MIN`; so on through the list.

    Other estimators are yardsticks: serving them takes scikit-learn (decision 0014).
    """
    trees = [one for one in fitted if one.is_trees]
    best = trees[0]
    for other in trees[1:]:
        if other.log_loss < best.log_loss * (1 - GAIN_MIN):
            best = other
    return best


def _card(
    data: Dataset, commits: Path, fitted: Sequence[_Fitted], chosen: _Fitted, *, name: str, now: datetime
) -> Card:
    later = data.part == CALIBRATES
    return Card(
        agent=AGENT_NAME,
        version=name,
        trained_at=now,
        estimator=chosen.name,
        data=_training_data(data, commits),
        feature_names=features.NAMES,
        feature_version=features.VERSION,
        medians=tuple(
            np.median(data.matrix[(data.part == TRAINS) | (data.part == CALIBRATES)], axis=0)
            .round(6)
            .tolist()
        ),
        predictions=PREDICTIONS,
        threshold=THRESHOLD,
        costs=COSTS,
        calibration=chosen.calibration,
        metrics=trials.held_out(data, chosen.scores),
        candidates=[
            Candidate(
                name=one.name,
                log_loss=round(one.log_loss, 5),
                balanced_accuracy=round(
                    trials.macro_value(data.truth[later], one.scores[later] >= EVEN, data.repository[later]),
                    4,
                ),
                microseconds_per_row=round(one.microseconds, 2),
                chosen=one.name == chosen.name,
            )
            for one in fitted
        ],
        probes=_probes(data, chosen),
        libraries={
            package: version(package) for package in ("scikit-learn", "numpy", "onnx", "onnxruntime", "skops")
        },
        notes=_notes(data),
    )


def _judged(card: Card, data: Dataset, chosen: _Fitted, commits: Path, seed: int, progress: Progress) -> Card:
    """The card with what only the chosen estimator is asked for."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    def fit(data: Dataset, first: Bools, later: Bools) -> Floats:
        estimator = dict(_estimators(seed))[chosen.name]
        calibration, _ = _trained(estimator, data, first, later)
        _learn(estimator, data, first | later)
        return _scores(estimator, data.matrix, at_threshold(calibration))

    def score(matrix: Floats) -> Floats:
        return _scores(chosen.estimator, matrix, chosen.calibration)

    with threadpool_limits(limits=1):
        progress("leaving repositories out")
        left_out = trials.left_out(data, fit)
        progress("mixing up one feature after another")
        importances = trials.importances(data, score, seed)
        progress("telling labels late")
        late = dataset(read_commits(commits), late=True)
        told_late = trials.macro(
            late,
            fit(late, late.part == TRAINS, late.part == CALIBRATES),
            late.part == TESTS,
            resampled="clusters",
        )
    newest = data.part == TESTS
    return msgspec.structs.replace(
        card,
        macro=trials.macro(data, chosen.scores, newest, resampled="clusters"),
        first=trials.macro(
            data, chosen.scores, newest & trials.firsts(data.repository, data.landing), resampled="clusters"
        ),
        told_late=told_late,
        curves=trials.curves(data, chosen.scores),
        left_out=left_out,
        importances=importances,
        trade_off=trials.trade_off(data, chosen.scores),
        reference=drift.reference(
            features.NAMES, data.matrix[data.part == TRAINS], chosen.scores[data.part == TRAINS]
        ),
    )


def slim(estimator: Any) -> None:
    """Drop what only fitting needs: smaller files, and no random generator in them."""
    if hasattr(estimator, "_feature_subsample_rng"):
        estimator._feature_subsample_rng = None  # noqa: SLF001


def _training_data(data: Dataset, commits: Path) -> artifact.TrainingData:
    with commits.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return artifact.TrainingData(
        file=commits.name,
        sha256=digest,
        rows=int((data.part != LEFT_OUT).sum()),
        since=data.since,
        until=data.until,
        trained_on=int((data.part == TRAINS).sum()),
        calibrated_on=int((data.part == CALIBRATES).sum()),
        tested_on=int((data.part == TESTS).sum()),
    )


def _probes(data: Dataset, chosen: _Fitted) -> list[artifact.Probe]:
    """Rows over the whole range of scores."""
    order = np.argsort(chosen.scores, kind="stable")
    places = order[np.linspace(0, len(order) - 1, PROBES).astype(int)]
    return [artifact.Probe(data.rows[i], float(chosen.scores[i])) for i in places.tolist()]


def _notes(data: Dataset) -> list[str]:
    later = data.part == CALIBRATES
    rules_raw = np.array(
        rules.points([data.rows[i] for i in np.flatnonzero(later).tolist()]), dtype=np.float64
    )
    even = fit_calibration(
        1 / (1 + np.exp(-rules_raw)), data.truth[later], trials.class_weights(data, later, EVEN)
    )
    line = at_threshold(even)
    return [
        "Label: the landing unit (pull request, merge) of the commit touches a README or the docs.",
        f"Scores: how likely documentation is needed in a repository where {THRESHOLD:.1%} of the changes need it.",
        "The estimator was chosen and its line fitted with the training part alone, then it learned both older parts.",
        f"Left out at part borders, because their landing unit began in an older part: {int((data.part == LEFT_OUT).sum())}.",
        f"Rules: line fitted on the calibration part {line.slope:.3f} a point, {line.intercept:.3f} at none.",
        f"Rules: line in use {rules.SLOPE} a point, {rules.INTERCEPT} at none.",
        "Rules: their points were fitted on the older 70 % of all repositories, also of those that are left out here.",
        f"Means over repositories: those with fewer than {trials.CLASS_MIN} decisions of either class are left out.",
    ]
