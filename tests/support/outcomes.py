"""Outcomes and what belongs to them, with defaults for all that a test does not speak of."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import (
    Answer,
    Answers,
    FlagState,
    Outcome,
    Place,
    ShadowAnswer,
    Timings,
    Versions,
)

START = datetime(2026, 11, 1, 12, 0, 30, tzinfo=UTC)
REQUESTS = "decision-requests"


def answer(decider: str = "rules@1", prediction: str = "update", score: float = 0.7) -> Answer:
    return Answer(
        decider=decider, prediction=prediction, score=score, confidence=max(score, 1 - score), reason="r"
    )


_OUTCOME = Outcome(
    decision_id="d0",
    agent="documentation-keeper",
    unit="repo-1",
    status="final",
    revision=1,
    success=True,
    source="deterministic",
    arm="control",
    prediction="update",
    confidence=0.7,
    reason="public interface changed",
    action="validate",
    needs_review=False,
    fallback_reason=None,
    answers=Answers(rules=answer()),
    flag=FlagState(name="ml-agent-rollout", percentage=5.0, version=3),
    versions=Versions(pointsman="0.1.0", features="2", rules="1"),
    features=Raw(b'{"files":2,"added":10.5}'),
    input=Raw(b'{"subject": "add a page"}'),
    requested_at=None,
    decided_at=START,
    timings=Timings(total_ms=12.345, features_ms=0.01),
    place=Place(topic=REQUESTS, partition=0, offset=0),
    content_hash="00000000000000aa",
)


def outcome(offset: int = 0, *, partition: int = 0, **changes: Any) -> Outcome:
    """An outcome of the request at that place; its id and time follow from the place."""
    defaults = {
        "decision_id": f"d{partition}-{offset}",
        "decided_at": START + timedelta(seconds=offset),
        "place": Place(topic=REQUESTS, partition=partition, offset=offset),
        "content_hash": f"{offset:08x}{partition:08x}",
    }
    return replace(_OUTCOME, **{**defaults, **changes})


def shadow(offset: int = 0, *, partition: int = 0, prediction: str = "none", **changes: Any) -> ShadowAnswer:
    """A model's answer to the request at that place, not served."""
    defaults = {
        "decision_id": f"d{partition}-{offset}",
        "agent": "documentation-keeper",
        "answer": answer("ml@7", prediction, 0.2),
        "answered_at": START + timedelta(seconds=offset + 1),
        "place": Place(topic=REQUESTS, partition=partition, offset=offset),
    }
    return ShadowAnswer(**{**defaults, **changes})


def feedback(id_: str, decision_id: str = "d0-0", **changes: Any) -> Feedback:
    """A feedback event."""
    defaults = {"agent": "documentation-keeper", "observed_at": START + timedelta(hours=1)}
    return Feedback(id=id_, decision_id=decision_id, **{**defaults, **changes})
