"""An estimator of scikit-learn's as a skops file: no pickle, and no type that is not on a short list."""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import Any, Final

FILE: Final = "model.skops"
INFLATED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Its archive may say that it holds so much; numbers hardly compress, and what unpacks a thousandfold is an attack."""
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


def dump(estimator: Any) -> bytes:
    """The same bytes for equal estimators."""
    import skops.io  # noqa: PLC0415

    from pointsman.models.canonical import canonical_archive  # noqa: PLC0415

    return canonical_archive(skops.io.dumps(estimator))


def load(data: bytes, saved_by: str) -> Any:
    """The estimator; ``saved_by``: the version of scikit-learn. Raises ValueError that says why there is none."""
    import skops.io  # noqa: PLC0415

    _check_version(saved_by)
    _check_inflated(data)
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(data=data)) - TRUSTED)
    except Exception as error:  # any file may stand there: whatever its parser raises means the same
        msg = f"is no skops file ({error})"
        raise ValueError(msg) from error
    if unknown:
        msg = f"holds types that are not trusted: {', '.join(unknown)}"
        raise ValueError(msg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another minor version warns; the probes decide
            return skops.io.loads(data, trusted=sorted(TRUSTED))
    except Exception as error:
        msg = f"cannot be loaded: {error}"
        raise ValueError(msg) from error


def _check_version(saved_by: str) -> None:
    import sklearn  # noqa: PLC0415

    if saved_by.partition(".")[0] != sklearn.__version__.partition(".")[0]:
        msg = f"was saved by scikit-learn {saved_by or '(not said)'}, here is {sklearn.__version__}: train again"
        raise ValueError(msg)


def _check_inflated(data: bytes) -> None:
    """No more is ever unpacked of an archive's file than the size that stands in its head."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(each.file_size for each in archive.infolist())
    except Exception as error:  # any file may stand there
        msg = f"is no skops file ({error})"
        raise ValueError(msg) from error
    if size > INFLATED_BYTES_MAX:
        msg = f"unpacks to {size} bytes, {INFLATED_BYTES_MAX} are allowed"
        raise ValueError(msg)
