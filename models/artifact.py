"""A trained model on disk: a folder with ``card.json`` (what it is) and ``model.skops`` (the estimator).

Reading the card costs nothing; scikit-learn and skops are imported only by `load_scorer` and `save`, so that
a process that only compares scores with a threshold stays small.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from pointsman.models.confidence import DECIMALS
from pointsman.models.evaluate import Costs, Difference, Quality
from pointsman.schemas.errors import PointsmanError

CARD_FILE: Final = "card.json"
MODEL_FILE: Final = "model.skops"
MODEL_BYTES_MAX: Final = 64 * 1024 * 1024
"""A model is read whole to check it; a larger file is a mistake or an attack."""
INFLATED_BYTES_MAX: Final = 4 * MODEL_BYTES_MAX
"""Its archive may say that it holds so much; numbers hardly compress, and what unpacks a thousandfold is an attack."""
CARD_BYTES_MAX: Final = 4 * 1024 * 1024
"""Hundreds of times the card of 30 features."""
_NO_FILES: Final = ("", ".", "..")
PROBE_TOLERANCE: Final = 2e-6
"""Two units of the last kept decimal: another machine's exp may differ in the last bit before rounding."""
TRUSTED: Final = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss._loss.CyHalfBinomialLoss",
    }
)
"""All that a model file may hold beyond what skops trusts by itself (public estimators, numpy arrays, plain
values). Plain data and formulas; none of them runs code from the file."""


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
    notes: list[str] = []
    model_file: str = MODEL_FILE
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
    if (
        Path(card.model_file).name != card.model_file
        or card.model_file in _NO_FILES
        or "\0" in card.model_file
    ):
        raise ModelArtifactError(file, f"model_file {card.model_file!r} must be a name in the same folder")
    return card


def load_scorer(folder: Path) -> Scorer:
    """The model, after its checksum, types, feature count and probes were checked. Raises `ModelArtifactError`."""
    card = load_card(folder)
    file = folder / card.model_file
    estimator = _estimator(file, _verified(file, card.model_sha256), card)
    features = getattr(estimator, "n_features_in_", None)
    if features != len(card.feature_names):
        raise ModelArtifactError(
            file, f"expects {features} features, its card names {len(card.feature_names)}"
        )
    scorer = Scorer(estimator, card)
    _check_probes(file, scorer, card)
    return scorer


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


def _estimator(file: Path, data: bytes, card: Card) -> Any:
    import skops.io  # noqa: PLC0415

    _check_version(file, card)
    _check_inflated(file, data)
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - TRUSTED)
    except Exception as error:  # any file may stand there: whatever its parser raises means the same
        raise ModelArtifactError(file, f"is no skops file ({error})") from error
    if unknown:
        raise ModelArtifactError(file, f"holds types that are not trusted: {', '.join(unknown)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another minor version warns; the probes decide
            return skops.io.loads(data, trusted=sorted(TRUSTED))
    except Exception as error:
        raise ModelArtifactError(file, f"cannot be loaded ({_libraries_text(card)}): {error}") from error


def _check_inflated(file: Path, data: bytes) -> None:
    """No more is ever unpacked of an archive's file than the size that stands in its head."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(each.file_size for each in archive.infolist())
    except Exception as error:  # any file may stand there
        raise ModelArtifactError(file, f"is no skops file ({error})") from error
    if size > INFLATED_BYTES_MAX:
        raise ModelArtifactError(file, f"unpacks to {size} bytes, {INFLATED_BYTES_MAX} are allowed")


def _check_version(file: Path, card: Card) -> None:
    import sklearn  # noqa: PLC0415

    saved = card.libraries.get("scikit-learn", "")
    if saved.partition(".")[0] != sklearn.__version__.partition(".")[0]:
        problem = (
            f"was saved by scikit-learn {saved or '(not said)'}, here is {sklearn.__version__}: train again"
        )
        raise ModelArtifactError(file, problem)


def _check_probes(file: Path, scorer: Scorer, card: Card) -> None:
    if not card.probes:
        raise ModelArtifactError(file, "its card has no probes to check the model with")
    expected = np.array([probe.score for probe in card.probes])
    try:
        found = scorer.score(np.array([probe.row for probe in card.probes], dtype=np.float64))
    except Exception as error:
        raise ModelArtifactError(
            file, f"does not score its probes ({_libraries_text(card)}): {error}"
        ) from error
    if not np.all(np.abs(found - expected) <= PROBE_TOLERANCE):  # also where NaN
        worst = float(np.max(np.abs(found - expected)))
        problem = f"scores its probes otherwise, by up to {worst:.6f} ({_libraries_text(card)}): train again"
        raise ModelArtifactError(file, problem)


def _libraries_text(card: Card) -> str:
    import sklearn  # noqa: PLC0415

    return f"saved by scikit-learn {card.libraries.get('scikit-learn')}, here is {sklearn.__version__}"


def save(folder: Path, card: Card, estimator: Any) -> Card:
    """Write both files, the card last and with the model's checksum; equal models give equal bytes."""
    import skops.io  # noqa: PLC0415

    from pointsman.models.canonical import canonical_archive  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    data = canonical_archive(skops.io.dumps(estimator))
    card = msgspec.structs.replace(card, model_sha256=hashlib.sha256(data).hexdigest())
    _replace(folder / card.model_file, data)
    _replace(folder / CARD_FILE, msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")
    return card


def _replace(file: Path, data: bytes) -> None:
    """Whole or not at all, as seen by a reader."""
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(data)
    new.replace(file)
