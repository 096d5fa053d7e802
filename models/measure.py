"""How an agent's success is measured: what the two kinds of error cost it."""

from __future__ import annotations

from msgspec import Struct

from pointsman.models.agent import Agent
from pointsman.models.artifact import load_card
from pointsman.models.evaluate import Costs


class Measure(Struct, frozen=True):
    """How success is measured: scores are probabilities of ``positive``."""

    agent: str
    positive: str
    costs: Costs


def measure_of(agent: Agent) -> Measure:
    """From the model's card, in which costs are frozen; without a model both errors cost the same."""
    costs = load_card(agent.model).costs if agent.model is not None else Costs(1.0, 1.0)
    return Measure(agent.name, agent.predictions[-1], costs)
