"""Trained models through the whole way: artifact on disk, server process, frames, client."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression

from pointsman.models.artifact import (
    Calibration,
    Card,
    HeldOut,
    Probe,
    Scorer,
    TrainingData,
    load_scorer,
    save,
)
from pointsman.models.evaluate import Costs, Difference, Estimate, Quality
from pointsman.streams.model.client import ModelClient, ModelFailure
from pointsman.streams.model.process import ModelProcess
from tests.unit.streams.model.model_servers import environment

LOADER = "tests.unit.streams.model.model_fakes:trained"
NAMES = ("a", "b", "c", "d")


def save_model(folder: Path) -> None:
    """A small logistic regression as an artifact; its figures are of no account here."""
    random = np.random.default_rng(7)
    matrix = random.normal(size=(200, len(NAMES)))
    estimator = LogisticRegression().fit(matrix, matrix[:, 0] + matrix[:, 1] > 0)
    when, half = datetime(2026, 1, 1, tzinfo=UTC), Estimate(0.5, 0.0, 1.0)
    quality = Quality(
        n=0,
        positives=0,
        accuracy=half,
        balanced_accuracy=half,
        success=half,
        auc=0.5,
        brier=0.25,
        calibration=[],
    )
    difference = Difference(
        n=0, only_first_right=0, only_second_right=0, accuracy=half, balanced_accuracy=half, success=half
    )
    data = TrainingData(
        file="-",
        sha256="-",
        rows=200,
        since=when,
        until=when,
        trained_on=200,
        calibrated_on=0,
        tested_on=0,
    )
    card = Card(
        agent=folder.name,
        version="2026.1.1",
        trained_at=when,
        estimator="LogisticRegression",
        data=data,
        feature_names=NAMES,
        feature_version="1",
        medians=(0.0,) * len(NAMES),
        predictions=("no", "yes"),
        threshold=0.5,
        costs=Costs(1.0, 1.0),
        calibration=Calibration(1.0, 0.0),
        metrics=HeldOut(rules=quality, ml=quality, ml_minus_rules=difference, always=quality, never=quality),
        candidates=[],
        probes=[],
        libraries={"scikit-learn": sklearn.__version__},
    )
    row = tuple(matrix[0].tolist())
    probe = Probe(row=row, score=float(Scorer(estimator, card).score(matrix[:1])[0]))
    save(folder, _with_probe(card, probe), estimator)


def _with_probe(card: Card, probe: Probe) -> Card:
    card.probes.append(probe)
    return card


async def test_a_trained_model_scores_in_its_process_as_it_does_here_and_a_damaged_one_harms_it_not(
    tmp_path: Path,
) -> None:
    good, damaged = tmp_path / "good", tmp_path / "damaged"
    for folder in (good, damaged):
        save_model(folder)
    with (damaged / "model.skops").open("ab") as file:
        file.write(b"!")
    rows = [tuple(row) for row in np.random.default_rng(8).normal(size=(500, len(NAMES))).tolist()]

    process = ModelProcess([good, damaged], loader=LOADER, environment=environment())
    await process.start()
    client = ModelClient(process.address, deadline_ms=10_000)
    await client.start()
    try:
        async with asyncio.timeout(60):
            assert await client.ready(60)
            scores = await client.score("good", rows)
            assert scores.values == load_scorer(good).score(np.array(rows)).tolist()
            assert scores.version == "2026.1.1"
            with pytest.raises(ModelFailure, match="model_unavailable"):
                await client.score("damaged", rows)
    finally:
        await client.stop()
        await process.stop()
