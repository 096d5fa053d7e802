"""`Agent`: a named decision maker, and where agents are found.

An agent is a folder with an ``agent.py`` (or a package) that defines ``AGENT``. Those of the package
live in ``models/agents``; further folders come by the setting ``agents``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from pointsman.models.decider import Decider, Row
from pointsman.models.state import UNSEEN, KeyedState, Seen


class TryLater(Exception):
    """An agent's features or rules raise it where waiting can mend what is wrong: the request is tried again.

    The message is for people; it stands in the dead letter if no attempt succeeds.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Confidence above ``act`` acts; from ``validate`` on it acts and is marked; below, it escalates."""

    act: float = 0.80
    validate: float = 0.60

    def __post_init__(self) -> None:
        if not 0 <= self.validate <= self.act <= 1:
            msg = (
                f"bands must satisfy 0 <= validate <= act <= 1, not validate={self.validate}, act={self.act}"
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """All that Pointsman needs to know of one kind of decision.

    ``features`` is pure and takes a whole batch of inputs; it returns one row of floats an input, as long as
    ``feature_names``. With ``state`` it takes a second sequence, one `Seen` for each input. ``model`` is the folder of a
    trained artifact, or None: then only rules answer.
    """

    name: str
    input_type: type[msgspec.Struct]
    feature_names: tuple[str, ...]
    feature_version: str
    features: Callable[..., list[Row]]
    predictions: tuple[str, ...]
    """Every prediction that may be made, the positive one last."""
    rules: Decider
    model: Path | None = None
    state: KeyedState | None = None
    """What it remembers of each unit, learned from feedback; None: nothing."""
    flag: str = ""
    """Name of the flag that splits its traffic; default ``<name>-rollout``."""
    bands: Bands = field(default_factory=Bands)
    kind: Literal["decision"] = "decision"
    type: Literal["ANALYSIS", "MODIFICATION"] = "ANALYSIS"
    policy: Literal["AUTO", "APPROVAL_REQUIRED"] = "AUTO"
    capabilities: tuple[str, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    """Valid inputs as plain objects: the conformance run, the docs and `pointsman decide --example` use them."""
    train: Callable[..., Any] | None = None
    """``train(commits: Path, out: Path, ...)``: the agent's training recipe."""

    def __post_init__(self) -> None:
        if not self.flag:
            object.__setattr__(self, "flag", f"{self.name}-rollout")

    def rows(self, inputs: Sequence[Any], seen: Sequence[Seen] | None = None) -> list[Row]:
        """The features of inputs; without ``seen`` as for units of which nothing is known."""
        if self.state is None:
            return self.features(inputs)
        return self.features(inputs, [UNSEEN] * len(inputs) if seen is None else seen)
