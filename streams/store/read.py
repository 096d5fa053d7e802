"""Reading for people and programs: one decision in full, a summary, and decisions whose truth is known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, convert
from psycopg.rows import dict_row

from pointsman.schemas.outcome import Arm, Source
from pointsman.streams.store.copyrow import clean
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load

_SQL: Final = load("read.sql")
ALWAYS: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""``since`` for all there is: no decision is older."""


class ArmFigures(Struct, frozen=True, kw_only=True):
    """Final outcomes of one assigned arm. Means and quantiles are None without decisions."""

    arm: Arm
    decisions: int
    by_ml: int
    fallbacks: int
    failures: int
    validations: int
    escalations: int
    both_answered: int
    agreements: int
    pending: int
    confidence_mean: float | None
    latency_mean_ms: float | None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class DecisionSummary(Struct, frozen=True, kw_only=True):
    """An agent's decisions since some minute. Quantiles in ms, over both arms, within 1 %."""

    agent: str
    arms: list[ArmFigures]
    fallbacks: dict[str, int]
    """Reason to count, the most frequent first."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None

    @property
    def decisions(self) -> int:
        """Final outcomes of both arms."""
        return sum(arm.decisions for arm in self.arms)

    @property
    def by_source(self) -> dict[Source, int]:
        """Final outcomes by what answered."""
        by_ml = sum(arm.by_ml for arm in self.arms)
        return {"ml": by_ml, "deterministic": self.decisions - by_ml}


class Labelled(Struct, frozen=True, kw_only=True):
    """A decision whose truth is known, with what was served and what each arm said."""

    decision_id: str
    created_at: datetime
    label: str
    served: str
    rules: str
    ml: str | None
    """The model's answer, in the outcome or in shadow; None if there is none."""
    source: Source
    arm: Arm
    ml_score: float | None
    ml_in_shadow: bool


async def decision(connection: Connection, decision_id: str) -> dict[str, Any] | None:
    """Everything about the decision of that id, or None.

    The columns of view `ml_learning.decisions` of its last row, and ``revisions`` (all rows of that id, last
    first), ``shadows`` and ``feedback`` (lists of rows, first first), and ``input_bytes`` (as received; None once they
    were deleted).
    """
    revisions = await _rows(connection, "decision", (clean(decision_id),))
    if not revisions:
        return None
    last = revisions[0]
    place = (last["topic_id"], last["partition"], last["request_offset"])
    shadows = await _rows(connection, "decision_shadows", (*place, last["decision_id"]))
    feedback = await _rows(connection, "decision_feedback", (last["decision_id"], last["agent_name"]))
    kept = await _rows(connection, "decision_input", (*place, last["revision"], last["decision_id"]))
    return {
        **last,
        "revisions": revisions,
        "shadows": shadows,
        "feedback": feedback,
        "input_bytes": bytes(kept[0]["input"]) if kept else None,
    }


async def summary(connection: Connection, agent: str, since: datetime = ALWAYS) -> DecisionSummary:
    """Counts, fallbacks and latencies of an agent, from the minute of ``since`` on."""
    values = {"agent": agent, "since": since.replace(second=0, microsecond=0)}
    latency = {row.pop("arm"): row for row in await _rows(connection, "latency", values)}
    arms = await _rows(connection, "summary", values)
    fallbacks = await _rows(connection, "fallbacks", values)
    return DecisionSummary(
        agent=agent,
        arms=[convert({**row, **latency.get(row["arm"], {})}, ArmFigures) for row in arms],
        fallbacks={row["reason"]: row["decisions"] for row in fallbacks},
        **latency.get(None, {}),
    )


async def labelled(connection: Connection, agent: str, since: datetime = ALWAYS) -> list[Labelled]:
    """Decisions of an agent whose truth is known, in order of time; the label known last counts."""
    found = await _rows(connection, "labelled", {"agent": agent, "since": since})
    return [convert(row, Labelled) for row in found]


async def _rows(connection: Connection, query: str, values: Any) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL[query], values)
        return await cursor.fetchall()
