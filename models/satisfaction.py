"""Satisfaction: what each signal says of it. The formula itself stands in the database, beside the counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Signal = Literal["rating", "accepted", "edited", "reverted", "ignored", "correction", "complaint"]


class Weight(Struct, frozen=True):
    """What a signal says: ``points`` from 1 to 5 (of a rating, its own), and how much beside a rating's 1."""

    weight: Annotated[float, Meta(ge=0, le=1_000)]
    points: Annotated[float, Meta(ge=1, le=5)] | None = None


WEIGHTS: Final[Mapping[Signal, Weight]] = {
    "rating": Weight(1.0),
    "accepted": Weight(0.25, 4.0),
    "edited": Weight(0.25, 3.0),
    "ignored": Weight(0.1, 3.0),
    "reverted": Weight(0.5, 1.0),
    "correction": Weight(0.5, 2.0),
    "complaint": Weight(1.0, 1.0),
}
"""Satisfaction is the weighted mean of points over all signals of a window, from 1 to 5.

Judgements, not measurements, and therefore settings: people who say something count in full, what they do without a word
counts in part. Four acceptances weigh as much as one rating, so that a busy silence does not drown it; to throw an answer
away says more than to take it; not to look at it says little, and nothing of its quality."""
