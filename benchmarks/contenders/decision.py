"""documentation-keeper's decision for contenders that bring their own loop: one request or many to outcomes.

Equal in content to what the lane emits, through the same fast typed codecs. Left out, to their advantage: dead
letters, the memory of answered ids, escalations, summaries, trace headers; and the model answers in this process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgspec

from benchmarks.contenders.task import Task
from pointsman.models import artifact, estimators
from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.ml import MlDecider
from pointsman.models.split import even
from pointsman.schemas.codec import Decoder
from pointsman.schemas.outcome import Answers, FlagState, Outcome, Place, Timings
from pointsman.schemas.request import DecisionRequest
from pointsman.streams.decisions.duplicates import content_hash
from pointsman.streams.decisions.runtime import Runtime

ESTIMATOR: Final = Path(__file__).with_name("estimator.skops")
"""What whoever has no Pointsman asks; `python -m benchmarks.contenders.estimator` makes it anew with a new model."""
SEED: Final = "benchmark"
"""Any constant: these contenders read no flag topic."""


class Arrived(NamedTuple):
    """A request's record, whichever client read it."""

    value: bytes
    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def model(*, estimator: bool) -> MlDecider:
    """The shipped model: the trees that Pointsman serves, or ``estimator``, of which they were made."""
    assert AGENT.model is not None
    if not estimator:
        return MlDecider.load(AGENT.model, AGENT.predictions)
    card = artifact.load_card(AGENT.model)
    fitted = estimators.load(ESTIMATOR.read_bytes(), card.libraries["scikit-learn"])
    return MlDecider(card, artifact.Scorer(fitted, card), AGENT.predictions)


class Decide:
    """Requests to outcomes: decode, features, rules, model (none where nobody asks it), split, encode."""

    def __init__(self, percent: float, shadow_percent: float, *, estimator: bool = False) -> None:
        self._percent = percent
        self._runtime = Runtime(AGENT)
        asked = percent > 0 or shadow_percent > 0
        self._model = model(estimator=estimator) if asked else None
        self._request = Decoder(DecisionRequest).decode
        self._input = Decoder(AGENT.input_type, "input").decode
        self._encode = msgspec.json.Encoder().encode
        self._flag = cast(Any, _raw(FlagState(name=AGENT.flag, percentage=percent, version=1)))
        self._versions = cast(Any, _raw(self._runtime.versions))
        self._counts: dict[int, int] = {}

    @classmethod
    def of(cls, task: Task) -> Decide | None:
        """As a task says; None where nothing is decided."""
        if not task.decides:
            return None
        return cls(task.percent, task.shadow_percent, estimator=task.estimator)

    def __call__(self, arrived: Sequence[Arrived]) -> list[tuple[bytes, bytes]]:
        """Key and value of one outcome a request, in order."""
        began = time.perf_counter()
        requests = [self._request(each.value) for each in arrived]
        rows = AGENT.rows(
            [self._input(request.input) for request in requests]
        )  # of units that nothing is known of
        rules = AGENT.rules.decide(rows)
        features_ms = (time.perf_counter() - began) * 1000 / len(arrived)
        asked = time.perf_counter()
        scored = self._model.decide(rows) if self._model else [None] * len(rows)
        model_ms = (time.perf_counter() - asked) * 1000
        now = datetime.now(UTC)
        shared = (now, cast(Any, _raw(now)), round(features_ms, 4), round(model_ms, 3))
        return [
            self._outcome(*parts, shared)
            for parts in zip(arrived, requests, rows, rules, scored, strict=True)
        ]

    def _outcome(
        self, record: Arrived, request: Any, row: Any, rules: Any, scored: Any, shared: tuple[Any, ...]
    ) -> tuple[bytes, bytes]:
        now, decided_at, features_ms, model_ms = shared
        count = self._counts.get(record.partition, 0)
        self._counts[record.partition] = count + 1
        candidate = even(SEED, record.partition, count, self._percent)
        served = scored if candidate and scored else rules
        action = self._runtime.action(served.confidence)
        outcome = Outcome(
            decision_id=request.id,
            agent=request.agent,
            unit=request.unit,
            status="final",
            revision=1,
            success=True,
            source="ml" if candidate else "deterministic",
            arm="candidate" if candidate else "control",
            prediction=served.prediction,
            confidence=served.confidence,
            reason=served.reason,
            action=action,
            needs_review=action == "escalate",
            fallback_reason=None,
            answers=Answers(rules=rules, ml=scored),
            flag=self._flag,
            versions=self._versions,
            features=self._runtime.named(*row),
            input=request.input,
            requested_at=request.requested_at,
            decided_at=decided_at,
            timings=Timings(
                total_ms=max(0.0, round(now.timestamp() * 1000 - record.timestamp_ms, 3)),
                features_ms=features_ms,
                model_ms=model_ms if candidate else None,
            ),
            place=Place(topic=record.topic, partition=record.partition, offset=record.offset),
            content_hash=f"{content_hash(record.value):016x}",
        )
        return request.id.encode(), self._encode(outcome)


def _raw(value: Any) -> msgspec.Raw:
    """Encoded once for many outcomes."""
    return msgspec.Raw(msgspec.json.encode(value))
