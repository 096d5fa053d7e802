"""`Summary` and `Ledger`: what a lane did, in a few numbers, on topic `decision-summaries`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pointsman.schemas.outcome import Arm
from pointsman.schemas.request import Moment


class ArmSummary(Struct, kw_only=True, omit_defaults=True):
    """Decisions of one agent and one assigned arm since the lane's last summary."""

    agent: str
    arm: Arm
    decisions: int = 0
    by_ml: int = 0
    """Answered by the model; the others by the rules."""
    fallbacks: dict[str, int] = {}
    """Fallback reason to count."""
    validations: int = 0
    escalations: int = 0
    confidence_sum: float = 0.0
    both_answered: int = 0
    """Decisions for which both arms' answers were known."""
    agreements: int = 0
    """Of these, how many agreed."""
    latency: dict[int, int] = {}
    """`latency.bucket` of the total latency to count: histograms that merge by addition."""
    latency_sum_ms: float = 0.0


class Ledger(Struct, kw_only=True, omit_defaults=True):
    """What became of the requests of one partition from ``start`` up to, without, ``end``.

    ``requests = outcomes + pending + dead_letters + duplicates + retrying``, always: the conservation
    law. Offsets that hold no request (transaction markers) lie in the range and count nowhere.
    """

    topic: str
    partition: int
    start: int
    end: int
    requests: int = 0
    outcomes: int = 0
    pending: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    retrying: Annotated[int, Meta(ge=0)] = 0

    def difference(self) -> int:
        """Requests that are unaccounted for: 0 unless something was lost or doubled."""
        return (
            self.requests - self.outcomes - self.pending - self.dead_letters - self.duplicates - self.retrying
        )


class Summary(Struct, kw_only=True, omit_defaults=True):
    """One lane partition's work since its last summary. Keyed by agent; the ledger has key ``_ledger``."""

    at: Moment
    lane: str
    arms: list[ArmSummary] = []
    """Shadow answers come later: `both_answered` counts those known at the outcome."""
    ledger: Ledger | None = None
    schema_version: int = 1
