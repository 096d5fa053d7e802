"""Requests, records, outcomes, feedback, a small agent and a fake model, with defaults for all that a test does not speak of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
from aiokafka import TopicPartition
from msgspec import Meta, Struct

from pointsman.models.agent import Agent
from pointsman.models.decider import Row
from pointsman.schemas.control import Flag
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Answer
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.model.failure import ModelFailure
from pointsman.streams.output import Record
from tests.support.outcomes import outcome

__all__ = ["Rules", "Score", "Small", "agent", "feedback", "outcome", "record", "request", "runtime", "valid"]

TOPIC = "decision-requests"
AT_MS = 1_790_000_000_000
SEED = "0123456789abcdef"
"""Of the flags."""
"""Time of every record, in milliseconds."""


class Small(Struct, frozen=True, kw_only=True):
    """Input of the small agent: ``p`` is the rules' score as it is."""

    p: Annotated[float, Meta(ge=0, le=1)] = 0.9
    count: Annotated[int, Meta(ge=0, le=100)] = 0
    text: str = ""
    tags: list[str] = []


def features(inputs: Sequence[Small]) -> list[Row]:
    """Fails on the text "boom", as an agent's code may; gives what is no number for the text "nan"."""
    rows = []
    for each in inputs:
        if each.text == "boom":
            msg = "boom"
            raise RuntimeError(msg)
        rows.append((each.p, float("nan") if each.text == "nan" else float(len(each.text))))
    return rows


class Rules:
    """The first feature is the score. Fails where the text was 7 letters long, as an agent's code may."""

    name = "rules"
    version = "1"

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        return [self._answer(row) for row in rows]

    def explain(self, row: Row) -> Mapping[str, float]:
        return {"p": row[0]}

    def _answer(self, row: Row) -> Answer:
        if row[1] == 7:
            msg = "seven"
            raise ZeroDivisionError(msg)
        yes = row[0] >= 0.5
        return Answer(
            decider="rules@1",
            prediction="yes" if yes else "no",
            score=row[0],
            confidence=max(row[0], 1 - row[0]),
            reason="p",
        )


SMALL = Agent(
    name="small",
    input_type=Small,
    feature_names=("p", "letters"),
    feature_version="small/1",
    features=features,
    predictions=("no", "yes"),
    rules=Rules(),
)


def agent(name: str = "small", **changes: Any) -> Agent:
    """The small agent under a name, its flag ``<name>-rollout``."""
    return replace(SMALL, name=name, flag=f"{name}-rollout", **changes)


def runtime(of: Agent | None = None, *, model: bool = True) -> Runtime:
    """A runtime; with a model's card, though there is no model."""
    made = Runtime(of or agent())
    if model:
        made.card = SimpleNamespace(version="7", threshold=0.5)  # type: ignore[assignment]
        made.versions = msgspec.structs.replace(made.versions, ml="ml@7")
    return made


def flag(percentage: float, version: int, agent_name: str = "small", seed: str = SEED) -> Flag:
    """That of an agent."""
    return Flag(
        name=f"{agent_name}-rollout",
        percentage=percentage,
        version=version,
        seed=seed,
        changed_at=datetime.now(UTC),
        changed_by="test",
    )


def request(id_: str = "r1", /, **changes: Any) -> dict[str, Any]:
    """A valid request as a plain object; ``input`` replaces the whole input."""
    return {"id": id_, "agent": "small", "input": {"p": 0.9}, **changes}


def valid(id_: str = "r1", /, offset: int = 0, **changes: Any) -> Record:
    """A record with a valid request and its right key."""
    value = request(id_, **changes)
    return record(msgspec.json.encode(value), key=str(value.get("unit") or id_).encode(), offset=offset)


def record(
    value: bytes | None,
    *,
    key: bytes | None = b"r1",
    offset: int = 0,
    topic: str = TOPIC,
    partition: int = 0,
    headers: Sequence[tuple[str, bytes | None]] = (),
    timestamp: int = AT_MS,
) -> Record:
    """A record as the consumer hands it over."""
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=0,
        key=key,
        value=value,
        headers=tuple(headers),  # type: ignore[arg-type]
    )


def at(record_: Record) -> TopicPartition:
    """Where a record lies."""
    return TopicPartition(record_.topic, record_.partition)


def feedback(id_: str = "f1", decision_id: str = "r1", **changes: Any) -> Feedback:
    """A feedback event."""
    return Feedback(
        id=id_,
        decision_id=decision_id,
        **{"agent": "small", "observed_at": datetime(2026, 11, 1, tzinfo=UTC), **changes},
    )


class Score:
    """A fake model: ``served`` and ``shadow`` take the rows and return scores, or raise; both are counted."""

    def __init__(
        self,
        served: Callable[[Sequence[Row]], Any] = lambda rows: [0.25] * len(rows),
        shadow: Callable[[Sequence[Row]], Any] = lambda rows: [0.25] * len(rows),
    ) -> None:
        self.served = served
        self.shadow = shadow
        self.version = "7"
        """As in `runtime`'s card."""
        self.asked: list[int] = []
        self.shadowed: list[int] = []
        self.gate = asyncio.Event()
        """Shadow questions wait for it."""
        self.gate.set()

    async def score_all(self, questions: Sequence[tuple[str, Sequence[Row]]]) -> list[Any]:
        found: list[Any] = []
        for each in questions:
            try:
                found.append(await self.score(*each))
            except ModelFailure as failure:
                found.append(failure)
        return found

    async def score(self, agent: str, rows: Sequence[Row]) -> Any:
        self.asked.append(len(rows))
        return SimpleNamespace(values=self.served(rows), version=self.version)

    async def score_shadow(self, agent: str, rows: Sequence[Row]) -> Any:
        self.shadowed.append(len(rows))
        await self.gate.wait()
        return SimpleNamespace(values=self.shadow(rows), version=self.version)
