"""Commits to what a model learns from: features with the history that each request would have seen, truth, and parts.

In each repository the oldest 55 % of the decisions train, the next 15 % calibrate and choose, the newest
30 % test. A landing unit shares one label, so one that spans a border is taken out of the later part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pointsman.models.agents.documentation_keeper.agent import AGENT
from pointsman.models.agents.documentation_keeper.history import Commit, HistoryError
from pointsman.models.agents.documentation_keeper.landings import events
from pointsman.models.agents.documentation_keeper.measure import NEEDED
from pointsman.models.decider import Row
from pointsman.models.replay import replay

TRAIN_UNTIL: Final = 0.55
CALIBRATE_UNTIL: Final = 0.70
CLASS_MIN: Final = 20
"""Of each class, in each part: below this neither calibration nor the figures mean anything."""
TRAINS: Final = 0
CALIBRATES: Final = 1
TESTS: Final = 2
LEFT_OUT: Final = -1

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.str_]


class Dataset(NamedTuple):
    """Decisions in time order within each repository."""

    rows: list[Row]
    matrix: Floats
    truth: Bools
    repository: Texts
    landing: Texts
    """Decisions with one landing share their label."""
    part: npt.NDArray[np.int8]
    """`TRAINS`, `CALIBRATES` or `TESTS`; `LEFT_OUT` at a border."""
    since: datetime
    until: datetime


def dataset(commits: Iterable[Commit], *, late: bool = False) -> Dataset:
    """Those in the domain, as features and truth, with their part. Raises `HistoryError` if there are too few.

    ``late``: labels are told as `landings.known` says.
    """
    everything = list(commits)
    used = [commit for commit in everything if commit.in_domain]
    if not used:
        msg = "no commit touches source: nothing to learn from"
        raise HistoryError(msg)
    rows = [row for _, row in replay(AGENT, events(everything, late=late))]
    truth = np.array([commit.truth == NEEDED for commit in used])
    part = parts(used)
    for number, what in enumerate(("training", "calibration", "test")):
        fewest = min(int(truth[part == number].sum()), int((~truth[part == number]).sum()))
        if fewest < CLASS_MIN:
            msg = f"the {what} part has {fewest} decisions of its rarer class, it needs {CLASS_MIN}: read more commits"
            raise HistoryError(msg)
    times = [commit.committed_at for commit in used]
    return Dataset(
        rows,
        np.array(rows, dtype=np.float64),
        truth,
        np.array([commit.repository for commit in used]),
        np.array([commit.land for commit in used]),
        part,
        min(times),
        max(times),
    )


def parts(used: Sequence[Commit]) -> npt.NDArray[np.int8]:
    """By time within each repository; a landing unit belongs to the part in which it begins."""
    places: dict[str, list[int]] = {}
    for i, commit in enumerate(used):
        places.setdefault(commit.repository, []).append(i)
    part = np.full(len(used), LEFT_OUT, dtype=np.int8)
    for mine in places.values():
        begun: dict[str, int] = {}
        for order, i in enumerate(mine):
            share = order / len(mine)
            number = TRAINS if share < TRAIN_UNTIL else CALIBRATES if share < CALIBRATE_UNTIL else TESTS
            if begun.setdefault(used[i].land, number) == number:
                part[i] = number
    return part
