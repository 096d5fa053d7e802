"""`Decider`: something that answers. Rules and models have the same shape, so that any two can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from pointsman.schemas.outcome import Answer

Row: TypeAlias = tuple[float, ...]
"""One request's features, in the order of the agent's feature names."""


class Decider(Protocol):
    """Pure: the same rows give the same answers, whatever else is in the batch."""

    @property
    def name(self) -> str:
        """``rules`` or ``ml``."""

    @property
    def version(self) -> str:
        """Changes whenever an answer could."""

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer a row, in order."""

    def explain(self, row: Row) -> Mapping[str, float]:
        """Feature name to what it added to the score, in the decider's own unit, largest effect first."""


def decider_id(decider: Decider) -> str:
    """Name and version as they stand in an answer: ``rules@1``."""
    return f"{decider.name}@{decider.version}"
