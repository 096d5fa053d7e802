"""Rules and model on repositories of which nothing was used: `python -m …unseen MODEL OWNER/NAME=FOLDER…`.

Each repository's whole history is replayed, oldest first, and both arms are asked about every commit in the domain. Prints
JSON: figures of all together and of each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from pointsman.models.agents.documentation_keeper import trials
from pointsman.models.agents.documentation_keeper.agent import AGENT
from pointsman.models.agents.documentation_keeper.dataset import Bools, Texts
from pointsman.models.agents.documentation_keeper.git_history import read_git
from pointsman.models.agents.documentation_keeper.history import Commit, HistoryError
from pointsman.models.agents.documentation_keeper.landings import events
from pointsman.models.agents.documentation_keeper.measure import NEEDED, PREDICTIONS
from pointsman.models.ml import MlDecider
from pointsman.models.replay import replay
from pointsman.models.resample import MacroPair, macro_pair
from pointsman.schemas.outcome import Answer

NEWEST: Final = 6_000
"""Commits of each, as the training histories have."""


class Repository(Struct, frozen=True, kw_only=True):
    """One of them."""

    name: str
    head: str
    decisions: int
    needed: int
    figures: MacroPair
    """Balanced accuracy; landings are drawn again."""


class Unseen(Struct, frozen=True, kw_only=True):
    """All of them, the rules first."""

    model: str
    repositories: list[Repository]
    same: MacroPair
    """The mean over them; landings are drawn again."""
    others: MacroPair
    """The same; repositories are drawn, then landings."""
    first: MacroPair
    """As `same`, on the first decision of each landing."""


class _Asked(NamedTuple):
    """Every decision of all of them."""

    truth: Bools
    rules: Bools
    model: Bools
    repository: Texts
    landing: Texts


def judge(folder: Path, repositories: dict[str, Path]) -> Unseen:
    """The model in ``folder`` and the rules, on git repositories by name. Raises `HistoryError`."""
    decider = MlDecider.load(folder, PREDICTIONS)
    asked = _ask(decider, repositories)
    everything = np.ones(len(asked.truth), bool)
    return Unseen(
        model=decider.card.version,
        repositories=[
            Repository(
                name=name,
                head=_head(place),
                decisions=int((asked.repository == name).sum()),
                needed=int(asked.truth[asked.repository == name].sum()),
                figures=_figures(asked, asked.repository == name, "clusters"),
            )
            for name, place in repositories.items()
        ],
        same=_figures(asked, everything, "clusters"),
        others=_figures(asked, everything, "groups"),
        first=_figures(asked, trials.firsts(asked.repository, asked.landing), "clusters"),
    )


def _ask(decider: MlDecider, repositories: dict[str, Path]) -> _Asked:
    used: list[Commit] = []
    answers: list[tuple[Answer, Answer]] = []
    for name, place in repositories.items():
        commits = list(read_git(place, newest=NEWEST, name=name))
        rows = [row for _, row in replay(AGENT, events(commits))]
        used += [commit for commit in commits if commit.in_domain]
        answers += zip(AGENT.rules.decide(rows), decider.decide(rows), strict=True)
    if not used:
        msg = "no commit of these repositories touches source"
        raise HistoryError(msg)
    return _Asked(
        np.array([commit.truth == NEEDED for commit in used]),
        np.array([rules.prediction == NEEDED for rules, _ in answers]),
        np.array([model.prediction == NEEDED for _, model in answers]),
        np.array([commit.repository for commit in used]),
        np.array([commit.land for commit in used]),
    )


def _figures(asked: _Asked, mask: Bools, resampled: Literal["clusters", "groups"]) -> MacroPair:
    return macro_pair(
        asked.truth[mask],
        (asked.rules[mask], asked.model[mask]),
        asked.repository[mask],
        asked.landing[mask],
        resampled=resampled,
        least=trials.CLASS_MIN,
    )


def _head(place: Path) -> str:
    return subprocess.run(
        ["git", "-C", str(place), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def main(folder: str, *named: str) -> None:
    """Print what `judge` finds."""
    pairs = (each.split("=", 1) for each in named)
    found = judge(Path(folder), {name: Path(place) for name, place in pairs})
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
