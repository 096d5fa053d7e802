"""The models of a server: every agent's artifact, and why one could not be loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pointsman.streams.model.protocol import ModelInfo

logger = logging.getLogger(__name__)

Matrix: TypeAlias = NDArray[np.float64]
Score: TypeAlias = Callable[[Matrix], Any]
"""(n, f) float64 to n probabilities; what it really returns is checked."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model."""

    info: ModelInfo
    score: Score


@dataclass(slots=True)
class Loaded:
    """Agent to model, and agent to the reason why it has none."""

    models: dict[str, Model] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


Loader: TypeAlias = Callable[[Sequence[Path]], Loaded]


def load_artifacts(folders: Sequence[Path]) -> Loaded:
    """The models of the package's agents and of those in ``folders``. One that is broken stops no other."""
    from pointsman.models.registry import load_agents  # noqa: PLC0415 - other loaders need neither agents nor skops

    agents = load_agents(folders).values()
    return load_each({agent.name: agent.model for agent in agents if agent.model is not None})


def load_each(folders: Mapping[str, Path]) -> Loaded:
    """The models of agents by name, each from its artifact's folder."""
    loaded = Loaded()
    for name, folder in folders.items():
        try:
            loaded.models[name] = load_artifact(name, folder)
        except Exception as error:  # an artifact may fail in any way, and the others must go on
            loaded.broken[name] = f"{type(error).__name__}: {error}"
            logger.exception("the model of %s cannot be loaded", name)
    return loaded


def load_artifact(name: str, folder: Path) -> Model:
    """The model in an artifact's folder. Raises whatever is wrong with it; ValueError for another agent's."""
    from pointsman.models.artifact import load_card, load_scorer  # noqa: PLC0415

    card = load_card(folder)
    if card.agent != name:
        msg = f"the artifact in {folder} is for agent {card.agent}, not {name}"
        raise ValueError(msg)
    info = ModelInfo(
        agent=name, version=card.version, sha256=card.model_sha256, features=len(card.feature_names)
    )
    return Model(info, load_scorer(folder).score)


def find_loader(name: str) -> Loader:
    """The loader at ``module:function``; the artifact loader for an empty name. Raises ValueError."""
    if not name:
        return load_artifacts
    module, _, function = name.partition(":")
    found = getattr(import_module(module), function, None) if function else None
    if not callable(found):
        msg = f"a loader is module:function, not {name!r}"
        raise ValueError(msg)  # noqa: TRY004 - a setting with a wrong value
    loader: Loader = found
    return loader


def warm_up(loaded: Loaded) -> None:
    """Score once, so that the first request does not pay for what a library puts off until it is used."""
    for name, model in loaded.models.items():
        try:
            model.score(np.zeros((1, model.info.features)))
        except Exception:  # zeros may be no valid row; real requests will tell
            logger.warning("the model of %s fails on a row of zeros", name, exc_info=True)
