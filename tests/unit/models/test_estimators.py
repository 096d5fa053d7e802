"""A skops file: only what is trusted is built, and what is none says so."""

from __future__ import annotations

import io
import subprocess
import zipfile
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from pointsman.models import estimators


def linear() -> Any:
    x = np.random.default_rng(1).normal(size=(200, 3))
    return LogisticRegression().fit(x, x[:, 0] > 0)


def test_what_was_saved_is_what_is_loaded() -> None:
    estimator, x = linear(), np.random.default_rng(2).normal(size=(20, 3))
    loaded = estimators.load(estimators.dump(estimator), sklearn.__version__)
    assert loaded.predict_proba(x).tolist() == estimator.predict_proba(x).tolist()


def test_types_that_are_not_trusted_are_named_and_never_built() -> None:
    data = estimators.dump(FunctionTransformer(func=subprocess.check_output))
    with pytest.raises(ValueError, match=r"not trusted: .*check_output"):
        estimators.load(data, sklearn.__version__)


@pytest.mark.parametrize("data", [b"", b"junk"])
def test_a_file_that_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="is no skops file"):
        estimators.load(data, sklearn.__version__)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused() -> None:
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("schema.json", "w") as file,
    ):
        for _ in range(estimators.INFLATED_BYTES_MAX // 2**20 + 1):
            file.write(bytes(2**20))
    with pytest.raises(ValueError, match="unpacks to"):
        estimators.load(bomb.getvalue(), sklearn.__version__)


@pytest.mark.parametrize("saved_by", ["0.24.2", ""])
def test_a_model_saved_by_another_major_version_is_refused(saved_by: str) -> None:
    with pytest.raises(ValueError, match=r"saved by scikit-learn (0\.24\.2|\(not said\))"):
        estimators.load(estimators.dump(linear()), saved_by)
