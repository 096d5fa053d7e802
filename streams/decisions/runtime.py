"""`Runtime`: an agent with what the lane prepares once for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final, Protocol

import msgspec

from pointsman.models.agent import Agent, Bands
from pointsman.models.artifact import Card, load_card
from pointsman.models.decider import decider_id
from pointsman.models.ml import BadModelOutput, Scoring, answers_of_all
from pointsman.schemas.errors import InvalidSetting
from pointsman.schemas.outcome import Action, Answer, Versions
from pointsman.streams.decisions.known import KnownAnswers
from pointsman.streams.model.failure import ModelFailure

POINTSMAN_VERSION: Final = version("pointsman")


class Scored(Protocol):
    """What a model answered: one score a row."""

    @property
    def values(self) -> Sequence[float]:
        """Probabilities of the positive class."""

    @property
    def version(self) -> str:
        """The model's."""


class Parts:
    """What all outcomes of an agent have in common, as bytes."""

    def __init__(self, agent: Agent, versions: Versions) -> None:
        encode = msgspec.json.encode
        self.approval = agent.policy == "APPROVAL_REQUIRED"
        self.agent = b',"agent":%b,"unit":' % encode(agent.name)
        self.status = b',"status":"%s","revision":%d,"success":true,"source":' % (
            b"pending_approval" if self.approval else b"final",
            not self.approval,
        )
        self.versions = b',"versions":%b,"features":' % encode(versions)


class Runtime:
    """One loaded agent: its model's card, its bands, and encoders made for its features."""

    def __init__(self, agent: Agent, bands: Bands | None = None) -> None:
        self.agent = agent
        self.bands = bands or agent.bands
        self.card: Card | None = load_card(agent.model) if agent.model is not None else None
        self.versions = Versions(
            pointsman=POINTSMAN_VERSION,
            features=agent.feature_version,
            rules=decider_id(agent.rules),
            ml=f"ml@{self.card.version}" if self.card else None,
        )
        self.known = KnownAnswers()
        """Encodings of the rules' answers."""
        self.named: Callable[..., Any] = msgspec.defstruct(
            "Features", [(name, float) for name in agent.feature_names], gc=False
        )
        """A row's numbers as a struct with the features' names, which encodes as an object."""

    @cached_property
    def parts(self) -> Parts:
        """What all its outcomes have in common."""
        return Parts(self.agent, self.versions)

    def action(self, confidence: float) -> Action:
        """What a confidence allows."""
        if confidence > self.bands.act:
            return "act"
        return "validate" if confidence >= self.bands.validate else "escalate"


def ml_answers(
    found: Sequence[tuple[Runtime, Scored | ModelFailure, int]],
) -> list[list[Answer] | BadModelOutput | ModelFailure]:
    """The models' answers from their scores, or why there are none; each with how many there must be.

    Threshold and calibration belong to the model of the card: another one's scores mean something else.
    """
    answers: dict[int, list[Answer] | BadModelOutput | ModelFailure] = {}
    scorings: dict[int, Scoring] = {}
    for place, (runtime, scored, count) in enumerate(found):
        card = runtime.card
        assert card is not None, "only asked where there is a model"
        if isinstance(scored, ModelFailure):
            answers[place] = scored
        elif scored.version != card.version:
            what = (
                f"{runtime.agent.name}: the server has {scored.version}, the card here is of {card.version}"
            )
            answers[place] = ModelFailure("model_unavailable", what)
        else:
            scorings[place] = Scoring(card, runtime.agent.predictions, scored.values, count)
    answers |= zip(scorings, answers_of_all(list(scorings.values())), strict=True)
    return [answers[place] for place in range(len(found))]


def runtimes(agents: Mapping[str, Agent], bands: Mapping[str, Bands]) -> dict[str, Runtime]:
    """A runtime for each agent, with the deployment's bands. Raises `InvalidSetting` for bands of no agent."""
    for name in bands.keys() - agents.keys():
        raise InvalidSetting(f"bands.{name}", f"the name of a loaded agent: {', '.join(sorted(agents))}")
    return {name: Runtime(agent, bands.get(name)) for name, agent in agents.items()}
