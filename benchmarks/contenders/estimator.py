"""The estimator behind the shipped model, trained anew from the same commits: python -m benchmarks.contenders.estimator COMMITS."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contenders.decision import ESTIMATOR
from pointsman.models import estimators
from pointsman.models.agents.documentation_keeper import train
from pointsman.models.agents.documentation_keeper.history import read_commits


def main(commits: Path) -> None:
    """Train, choose, write. What is chosen has no order of its own: the same commits give the same file."""
    data = train.dataset(read_commits(commits))
    # The recipe writes no estimator of trees, so its parts are asked for one.
    chosen = train._refitted(train.choose(train._fit_all(data, 0, print)), data, 0)  # noqa: SLF001
    train.slim(chosen.estimator)
    ESTIMATOR.write_bytes(estimators.dump(chosen.estimator))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
