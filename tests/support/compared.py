"""What people say of decisions, made up, and a comparison of what dashboards show with what was recomputed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any, Final

from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Outcome
from pointsman.streams.dashboards import panels
from tests.support.recomputed import Series

AGENT: Final = "documentation-keeper"
ANSWERS: Final = ["docs_needed", "docs_not_needed"]
SQL: Final = list(
    dict.fromkeys(
        query.name
        for dashboard in (panels.of_model(AGENT), panels.of_rollout(AGENT))
        for panel in dashboard.panels
        for query in panel.queries
        if query.sql
    )
)
"""Every query to the database, by its name."""


def told(outcome: Outcome, chance: random.Random, observed_at: datetime) -> list[tuple[Feedback, bool]]:
    """What people and programs say of a decision: much, little or nothing; some take it back."""
    events: list[dict[str, Any]] = []
    if chance.random() < 0.7:
        events.append({"label": chance.choice(ANSWERS)})
    if chance.random() < 0.1:
        events.append({"label": outcome.prediction})
    if chance.random() < 0.3:
        events.append({"rating": chance.choice([1, 2.5, 4, 5]), "comment": "so"})
    if chance.random() < 0.4:
        events.append({"signal": chance.choice(["accepted", "edited", "reverted", "ignored"])})
    if chance.random() < 0.1:
        events.append({"correction": "no", "complaint": "never"})
    if chance.random() < 0.3:
        events.append(
            {"tokens": chance.randrange(9_000), "tool_calls": 7, "tool_calls_correct": chance.randrange(8)}
        )
    if chance.random() < 0.3:
        events.append(
            {"task_duration_s": chance.randrange(100_000) / 1000, "cost": chance.randrange(1000) / 1000}
        )
    if chance.random() < 0.2:
        events.append({"task_completed_at": outcome.decided_at + timedelta(seconds=chance.randrange(500))})
    if chance.random() < 0.05:
        events.append({"critical_error": "it broke", "safety_violation": "badly"})
    return [
        (
            Feedback(
                id=f"e{n}",
                decision_id=outcome.decision_id,
                agent=AGENT,
                observed_at=observed_at,
                unit=outcome.unit,
                sender="monitor",
                **each,
            ),
            chance.random() < 0.5,
        )
        for n, each in enumerate(events)
    ]


def differing(shown: Series, expected: Series, *, within: float) -> list[str]:
    """What is not the same; ``within`` as a share of the value."""
    found = [f"{name} only in one" for name in shown.keys() ^ expected.keys()]
    for name in shown.keys() & expected.keys():
        a, b = shown[name], expected[name]
        if [x for x, _ in a] != [x for x, _ in b]:
            found.append(f"{name}: other moments: {a[:3]} {b[:3]}")
            continue
        found += [
            f"{name} at {x:.0f}: shown {y}, recomputed {z}"
            for (x, y), (_, z) in zip(a, b, strict=True)
            if abs(y - z) > within * max(1.0, abs(z))
        ]
    return found
