"""`Summary` and `Ledger`: what a lane did, in a few numbers, on topic `decision-summaries`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pointsman.schemas.outcome import Arm
from pointsman.schemas.request import Moment

_INT64 = 2**63 - 1
Sum = Annotated[int, Meta(ge=0, le=_INT64)]
"""What the tables can hold."""
FloatSum = Annotated[float, Meta(ge=-1e18, le=1e18)]
"""Far above any real sum, and two of them still add up to a number."""
Bucket = Annotated[int, Meta(ge=0, le=35_000)]
"""`latency.bucket` of what no clock can tell, 10^300 ms; from 35,700 on a bucket's edge is no float any more."""


class ArmSummary(Struct, kw_only=True, omit_defaults=True):
    """Decisions of one agent and one assigned arm since the lane's last summary."""

    agent: str
    arm: Arm
    decisions: Sum = 0
    by_ml: Sum = 0
    """Answered by the model; the others by the rules."""
    fallbacks: dict[str, Sum] = {}
    """Fallback reason to count."""
    validations: Sum = 0
    escalations: Sum = 0
    confidence_sum: FloatSum = 0.0
    both_answered: Sum = 0
    """Decisions for which both arms' answers were known."""
    agreements: Sum = 0
    """Of these, how many agreed."""
    latency: dict[Bucket, Sum] = {}
    """`latency.bucket` of the total latency to count: histograms that merge by addition."""
    latency_sum_ms: FloatSum = 0.0


class Ledger(Struct, kw_only=True, omit_defaults=True):
    """What became of the requests of one partition from ``start`` up to, without, ``end``.

    ``requests = outcomes + pending + dead_letters + duplicates + retrying``, always: the conservation
    law. Offsets that hold no request (transaction markers) lie in the range and count nowhere.
    """

    topic: str
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    start: Sum
    end: Sum
    requests: Sum = 0
    outcomes: Sum = 0
    pending: Sum = 0
    dead_letters: Sum = 0
    duplicates: Sum = 0
    retrying: Sum = 0

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
