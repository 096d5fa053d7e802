"""The model server's loader for chaos: the real models, which misbehave while a file of orders says so."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pointsman.streams.model.loading import Loaded, Matrix, Score, load_artifacts

ORDERS: Final = "CHAOS_ORDERS"
"""Environment: path of the file that holds one of the words below, or nothing."""
SLOW_S: Final = 0.15
"""Beyond the default deadline of 40 ms, and far below what counts as a hang."""
HANG_S: Final = 600.0


def load(folders: Sequence[Path]) -> Loaded:
    """Every model behind a look at the orders."""
    loaded = load_artifacts(folders)
    path = Path(os.environ[ORDERS])
    for name, model in loaded.models.items():
        loaded.models[name] = dataclasses.replace(model, score=obedient(model.score, path))
    return loaded


def obedient(score: Score, orders: Path) -> Score:
    """A scorer that does as ordered, and its work otherwise."""

    def scored(rows: Matrix) -> Any:
        order = orders.read_text() if orders.exists() else ""
        if order == "slow":
            time.sleep(SLOW_S)
        elif order == "hang":
            time.sleep(HANG_S)
        elif order == "crash":
            os._exit(3)
        elif order == "error":
            raise RuntimeError("as ordered")
        elif order == "shape":
            return np.zeros(len(rows) + 1)
        elif order == "nan":
            return np.full(len(rows), np.nan)
        return score(rows)

    return scored
