"""A second agent, outside of the package: is a support ticket urgent?

Try it:  pointsman decide --agent ticket-urgency --example    with  POINTSMAN_AGENTS=examples/agents
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from pointsman.models.agent import Agent
from pointsman.models.decider import Row
from pointsman.schemas.outcome import Answer


class Ticket(Struct, frozen=True, kw_only=True):
    """What the producer knows of a ticket."""

    subject: Annotated[str, Meta(max_length=500)]
    plan: Literal["free", "team", "enterprise"] = "free"
    open_tickets: Annotated[int, Meta(ge=0, le=100_000)] = 0
    hours_waiting: Annotated[float, Meta(ge=0, le=100_000)] = 0.0


FEATURES = ("words_of_alarm", "is_enterprise", "open_tickets", "hours_waiting")
ALARM = frozenset({"down", "outage", "breach", "leak", "urgent", "cannot", "lost"})


def features(tickets: Sequence[Ticket]) -> list[Row]:
    """One row a ticket, in the order of `FEATURES`."""
    return [
        (
            float(len(ALARM.intersection(ticket.subject.lower().split()))),
            float(ticket.plan == "enterprise"),
            float(ticket.open_tickets),
            ticket.hours_waiting,
        )
        for ticket in tickets
    ]


WEIGHTS = (0.30, 0.15, 0.01, 0.01)
CAPS = (2.0, 1.0, 10.0, 24.0)


class Rules:
    """A weighted sum, capped part by part; above one half it is urgent."""

    name = "rules"
    version = "1"

    def explain(self, row: Row) -> Mapping[str, float]:
        parts = {
            name: round(weight * min(value, cap), 6)
            for name, weight, cap, value in zip(FEATURES, WEIGHTS, CAPS, row, strict=True)
        }
        return dict(sorted(parts.items(), key=lambda part: -abs(part[1])))

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        return [self._decide(row) for row in rows]

    def _decide(self, row: Row) -> Answer:
        score = round(min(1.0, 0.1 + sum(self.explain(row).values())), 6)
        urgent = score >= 0.5
        return Answer(
            decider=f"{self.name}@{self.version}",
            prediction="urgent" if urgent else "can_wait",
            score=score,
            confidence=round(max(score, 1 - score), 6),
            reason="alarm in the subject" if row[0] else "nothing alarming",
        )


AGENT = Agent(
    name="ticket-urgency",
    input_type=Ticket,
    feature_names=FEATURES,
    feature_version="ticket-urgency/1",
    features=features,
    predictions=("can_wait", "urgent"),
    rules=Rules(),
    capabilities=("support-ticket",),
    examples=(
        {"subject": "Site is down", "plan": "enterprise", "hours_waiting": 2.5},
        {"subject": "How do I change my avatar?"},
        {"subject": "Data lost after the update", "plan": "team", "open_tickets": 7},
    ),
)
