"""What the drift watch needs to know of an agent: its model's version, its features, and what it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from pointsman.models.agent import Agent
from pointsman.models.artifact import load_card
from pointsman.models.drift import Reference

DIGEST_LETTERS: Final = 16


class Watched(Struct, frozen=True, kw_only=True):
    """An agent whose model's card has a reference."""

    agent: str
    model: str
    """The version in the card."""
    feature_version: str
    feature_names: tuple[str, ...]
    reference: Reference

    @property
    def digest(self) -> str:
        """Tells references apart whose models have the same version: their bins are others."""
        return hashlib.sha256(msgspec.json.encode(self.reference)).hexdigest()[:DIGEST_LETTERS]


def watched(agents: Iterable[Agent]) -> list[Watched]:
    """Of those agents that have a model with a reference. Raises `ModelArtifactError`."""
    found = []
    for agent in agents:
        card = load_card(agent.model) if agent.model is not None else None
        if card is not None and card.reference is not None:
            found.append(
                Watched(
                    agent=agent.name,
                    model=card.version,
                    feature_version=card.feature_version,
                    feature_names=card.feature_names,
                    reference=card.reference,
                )
            )
    return found
