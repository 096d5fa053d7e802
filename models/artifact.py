"""A trained model on disk: a folder with ``card.json`` (what it is) and a file with the numbers.

That file is ``model.onnx`` for boosted trees (`trees`) and ``model.skops`` for every other estimator (`estimators`).
Reading the card costs nothing, and serving trees needs no scikit-learn: libraries are imported where they are used.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from pointsman.models import drift, estimators, trees
from pointsman.models.confidence import DECIMALS
from pointsman.models.evaluate import CalibrationBin, Costs, Difference, Quality
from pointsman.models.resample import MacroPair
from pointsman.schemas.errors import PointsmanError

CARD_FILE: Final = "card.json"
MODEL_BYTES_MAX: Final = 64 * 1024 * 1024
"""A model is read whole to check it; a larger file is a mistake or an attack."""
CARD_BYTES_MAX: Final = 4 * 1024 * 1024
"""Hundreds of times the card of 30 features."""
_NO_FILES: Final = ("", ".", "..")
PROBE_TOLERANCE: Final = 2e-6
"""Two units of the last kept decimal: another machine's exp may differ in the last bit before rounding."""


class ModelArtifactError(PointsmanError):
    """A model's folder cannot be used; names the file and what is wrong with it."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file}: {problem}")
        self.file = file
        self.problem = problem


class TrainingData(Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """What the model was trained, calibrated and tested on."""

    file: str
    sha256: str
    rows: int
    """Decisions used, of all three parts."""
    since: datetime
    until: datetime
    trained_on: int
    calibrated_on: int
    tested_on: int


class Calibration(Struct, frozen=True):
    """Log odds of the estimator to log odds of the answer: slope times them, plus intercept."""

    slope: float
    intercept: float


class Probe(Struct, frozen=True):
    """A row and the score it had when the model was saved: a library that computes otherwise is found at loading."""

    row: tuple[float, ...]
    score: float


class Candidate(Struct, frozen=True, kw_only=True):
    """An estimator that was compared, with its figures on the calibration part."""

    name: str
    log_loss: float
    balanced_accuracy: float
    microseconds_per_row: float | None = None
    """In batches of 500, on the machine that trained."""
    chosen: bool = False


class HeldOut(Struct, frozen=True, kw_only=True):
    """Both arms on the same decisions, the newest of each repository, seen by neither."""

    rules: Quality
    ml: Quality
    ml_minus_rules: Difference
    always: Quality
    never: Quality


class LeftOut(Struct, frozen=True, kw_only=True):
    """Both arms on groups (repositories) of which the model has seen nothing: each is left out of training once."""

    folds: int
    rules: Quality
    ml: Quality
    macro: MacroPair
    """The rules first. On all decisions of every group, from its first one on."""
    newest: MacroPair
    """The same on the decisions that the time split tests on."""


class Importance(Struct, frozen=True):
    """What the macro-averaged balanced accuracy of the test part loses where a feature's values are mixed up."""

    feature: str
    loss: float
    low: float
    high: float


class Curves(Struct, frozen=True):
    """Scores against the share that was positive, at the share of positives of which scores speak; on the test part."""

    rules: list[CalibrationBin]
    ml: list[CalibrationBin]


class TradeOff(Struct, frozen=True, kw_only=True):
    """What the model would do if a missed one cost ``missed`` times as much as a needless one; macro-averaged."""

    missed: float
    threshold: float
    said: float
    """Share of decisions that say the positive class."""
    found: float
    """Share of the positives that are said to be."""
    right: float
    """Share of those said to be positive that are; pooled, since a group may have none."""
    balanced_accuracy: float


class Card(Struct, frozen=True, kw_only=True):
    """Everything about a trained model but its numbers."""

    agent: str
    version: str
    trained_at: datetime
    estimator: str
    data: TrainingData
    feature_names: tuple[str, ...]
    feature_version: str
    medians: tuple[float, ...]
    """Of each feature over the training part: what `MlDecider.explain` compares with."""
    predictions: tuple[str, ...]
    threshold: float
    costs: Costs
    calibration: Calibration
    metrics: HeldOut
    candidates: list[Candidate]
    probes: list[Probe]
    libraries: dict[str, str]
    macro: MacroPair | None = None
    """Rules first, on the test part; landings are drawn again."""
    first: MacroPair | None = None
    """The same on the first decision of each landing."""
    told_late: MacroPair | None = None
    """The same where labels are told only when a landing is over, with a model that was trained so."""
    left_out: LeftOut | None = None
    curves: Curves | None = None
    importances: list[Importance] = []
    trade_off: list[TradeOff] = []
    reference: drift.Reference | None = None
    """What the training part was like, for the drift watch."""
    notes: list[str] = []
    model_file: str = estimators.FILE
    model_sha256: str = ""
    format: int = 1


class Scorer:
    """A loaded estimator with its calibration. Pure: a row's score does not depend on its batch."""

    def __init__(self, estimator: Any, card: Card) -> None:
        self._estimator = estimator
        self._card = card

    def probabilities(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(positive) of each row of ``matrix`` (n, features), not rounded."""
        if matrix.ndim != 2 or matrix.shape[1] != len(self._card.feature_names):
            msg = f"expected shape (n, {len(self._card.feature_names)}), not {matrix.shape}"
            raise ValueError(msg)
        if not len(matrix):
            return np.empty(0)
        raw = self._estimator.predict_proba(matrix)[:, 1]
        return calibrated(raw, self._card.calibration)

    def score(self, matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """P(positive) of each row, rounded to 6 decimals. Raises ValueError on another shape."""
        return np.round(self.probabilities(matrix), DECIMALS)


def calibrated(raw: npt.NDArray[np.float64], calibration: Calibration) -> npt.NDArray[np.float64]:
    """Probabilities with their log odds stretched and moved."""
    clipped = np.clip(raw, 1e-9, 1 - 1e-9)
    odds = np.log(clipped / (1 - clipped))
    return np.asarray(1 / (1 + np.exp(-(calibration.slope * odds + calibration.intercept))))


def load_card(folder: Path) -> Card:
    """The card alone, without scikit-learn. Raises `ModelArtifactError`."""
    file = folder / CARD_FILE
    try:
        with file.open("rb") as stream:
            data = stream.read(CARD_BYTES_MAX + 1)
        if len(data) > CARD_BYTES_MAX:
            raise ModelArtifactError(file, f"is larger than {CARD_BYTES_MAX} bytes")
        card = msgspec.json.decode(data, type=Card)
    except OSError as error:
        raise ModelArtifactError(file, f"cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelArtifactError(file, f"is no model card ({error})") from error
    if not 0 < card.threshold < 1:
        raise ModelArtifactError(file, f"threshold is {card.threshold}, expected between 0 and 1")
    if len(card.medians) != len(card.feature_names):
        raise ModelArtifactError(file, "medians and feature_names differ in length")
    if card.reference is not None and (wrong := drift.problem(card.reference, card.feature_names)):
        raise ModelArtifactError(file, wrong)
    if (
        Path(card.model_file).name != card.model_file
        or card.model_file in _NO_FILES
        or "\0" in card.model_file
    ):
        raise ModelArtifactError(file, f"model_file {card.model_file!r} must be a name in the same folder")
    return card


def load_scorer(folder: Path) -> Scorer:
    """The model, after its checksum, content, feature count and probes were checked. Raises `ModelArtifactError`."""
    card = load_card(folder)
    file = folder / card.model_file
    data = _verified(file, card.model_sha256)
    try:
        estimator = trees.load(data) if file.suffix == ".onnx" else _estimator(data, card)
    except ValueError as error:
        raise ModelArtifactError(file, str(error)) from error
    features = getattr(estimator, "n_features_in_", None)
    if features != len(card.feature_names):
        raise ModelArtifactError(
            file, f"expects {features} features, its card names {len(card.feature_names)}"
        )
    scorer = Scorer(estimator, card)
    _check_probes(file, scorer, card)
    return scorer


def _estimator(data: bytes, card: Card) -> Any:
    return estimators.load(data, card.libraries.get("scikit-learn", ""))


def _verified(file: Path, sha256: str) -> bytes:
    try:
        if file.stat().st_size > MODEL_BYTES_MAX:
            raise ModelArtifactError(file, f"is larger than {MODEL_BYTES_MAX} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise ModelArtifactError(file, f"cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelArtifactError(file, f"checksum is {found[:12]}…, its card says {sha256[:12]}…")
    return data


def _check_probes(file: Path, scorer: Scorer, card: Card) -> None:
    if not card.probes:
        raise ModelArtifactError(file, "its card has no probes to check the model with")
    expected = np.array([probe.score for probe in card.probes])
    try:
        found = scorer.score(np.array([probe.row for probe in card.probes], dtype=np.float64))
    except Exception as error:
        raise ModelArtifactError(file, f"does not score its probes ({_saved_by(card)}): {error}") from error
    if not np.all(np.abs(found - expected) <= PROBE_TOLERANCE):  # also where NaN
        worst = float(np.max(np.abs(found - expected)))
        problem = f"scores its probes otherwise, by up to {worst:.6f} ({_saved_by(card)}): train again"
        raise ModelArtifactError(file, problem)


def _saved_by(card: Card) -> str:
    libraries = ", ".join(f"{name} {saved}" for name, saved in card.libraries.items())
    return f"saved with {libraries or 'libraries that it does not name'}"


def save(folder: Path, card: Card, estimator: Any) -> Card:
    """Write both files, the card last and with the model's name and checksum; equal models give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    data, name = trees.dump(estimator), trees.FILE
    if data is None:
        data, name = estimators.dump(estimator), estimators.FILE
    sha256 = hashlib.sha256(data).hexdigest()
    card = msgspec.structs.replace(card, model_file=name, model_sha256=sha256)
    _replace(folder / name, data)
    _replace(folder / CARD_FILE, msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")
    return card


def _replace(file: Path, data: bytes) -> None:
    """Whole or not at all, as seen by a reader."""
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(data)
    new.replace(file)
