"""Models for the server's ``--loader``: what a row's first feature says is what happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointsman.streams.model.loading import Loaded, Matrix, Model, load_each
from pointsman.streams.model.protocol import ModelInfo

FEATURES = 3


def _first(matrix: Matrix) -> Any:
    return matrix[:, 0]


def _obey(matrix: Matrix) -> Any:
    """Column 1 commands: 0 column 0; 1 raise; 2 NaN; 3 too few; 4 die; 5 hang; 6 text; 7 out of range."""
    command = int(matrix[0, 1])
    if command == 1:
        raise RuntimeError("the model is out of order")
    if command == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if command == 5:
        time.sleep(matrix[0, 2])
    if command == 6:
        return ["no", "numbers"]
    return {2: matrix[:, 0] * np.nan, 3: matrix[1:, 0], 7: matrix[:, 0] + 2}.get(command, matrix[:, 0])


def _info(agent: str, version: str = "1") -> ModelInfo:
    return ModelInfo(agent=agent, version=version, sha256="0" * 64, features=FEATURES)


def load(_folders: Sequence[Path]) -> Loaded:
    """Three agents: one that answers, one that obeys, one whose artifact is broken."""
    models = {
        "plain": Model(_info("plain", "2026.11.1"), _first),
        "obedient": Model(_info("obedient"), _obey),
    }
    return Loaded(models, {"broken": "ValueError: checksum"})


def trained(folders: Sequence[Path]) -> Loaded:
    """Real artifacts: each folder's name is its agent's."""
    return load_each({folder.name: folder for folder in folders})


def fail(_folders: Sequence[Path]) -> Loaded:
    """A loader that cannot load anything."""
    raise ValueError("no models today")


def slow(folders: Sequence[Path]) -> Loaded:
    """A loader that takes its time."""
    time.sleep(60)
    return load(folders)
