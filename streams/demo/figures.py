"""What a replay came to, read from the database: counts, quality of both arms on the same decisions, latencies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from msgspec import Struct
from psycopg.rows import dict_row

from pointsman.models import evaluate
from pointsman.models.agent import Agent
from pointsman.models.agents.documentation_keeper.features import NAMES, forgetful
from pointsman.models.agents.documentation_keeper.measure import COSTS, NEEDED
from pointsman.models.decider import Row
from pointsman.models.ml import MlDecider
from pointsman.schemas.outcome import Answer
from pointsman.streams.demo.drive import STALLED_S, Counts, DemoStalled
from pointsman.streams.demo.timeline import AGENT
from pointsman.streams.store import read
from pointsman.streams.store.check import aggregates_check, ledger_check
from pointsman.streams.store.errors import translated
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import load

_SQL: Final = load("figures.sql", "pointsman.streams.demo")
SHADOWS_S: Final = 3.0
"""Shadow answers are nobody's promise: so long after the last new one, none is waited for."""
LOOK_S: Final = 0.1


class Replay(Struct, frozen=True, kw_only=True):
    """Which decisions are meant."""

    run: str
    since: datetime
    cluster: str
    requests: str
    """Topic of the requests."""
    own_database: bool
    """Nobody else writes there: the checks over all of it apply."""

    def values(self) -> dict[str, Any]:
        """As the queries take them."""
        return {"run": self.run, "since": self.since, "cluster": self.cluster, "requests": self.requests}


class Side(Struct, frozen=True, kw_only=True):
    """Decisions of one source and arm, or of all where both are None. Latencies: request to outcome, in ms."""

    source: str | None
    arm: str | None
    decisions: int
    ids: int
    fallbacks: int
    validations: int
    escalations: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Arm(Struct, frozen=True, kw_only=True):
    """How good one arm's answers are; each with its 95 % interval."""

    accuracy: evaluate.Estimate
    balanced_accuracy: evaluate.Estimate
    success: evaluate.Estimate


class Twins(Struct, frozen=True, kw_only=True):
    """Both arms on the same decisions: those whose truth is known and that both answered, served or not."""

    n: int
    positives: int
    in_shadow: int
    """Of these, how many model answers were not served."""
    rules: Arm
    model: Arm
    model_minus_rules: evaluate.Difference


class Memory(Struct, frozen=True, kw_only=True):
    """What remembering adds: both arms with it, less both told nothing of the repository's past; the same decisions."""

    rules: evaluate.Difference
    model: evaluate.Difference


class Result(Struct, frozen=True, kw_only=True):
    """All that the demo tells, and what ``--json`` prints."""

    input: str
    commits: int
    repositories: int
    since: datetime
    until: datetime
    """First and last question, in the history's time."""
    rollout_percent: float
    model: str | None
    requests: int
    outcomes: int
    rows: int
    doubled: int
    feedback: int
    ledger: dict[str, int]
    differences: list[str]
    """What the checks of the database found; empty: every request is accounted for, every sum equals the audit."""
    seconds: float
    per_second: float
    sides: list[Side]
    twins: Twins | None
    memory: Memory | None
    labelled: int
    fallbacks: dict[str, int]
    signals: dict[str, int]
    example: str | None
    """A decision worth a look: the arms disagree and the truth is known."""
    notes: list[str]
    explain: str = ""
    """The command that shows it."""


async def settle(connection: Connection, replay: Replay, counts: Counts) -> None:
    """Wait until the database has every row, feedback event and ledger. Raises `DemoStalled`, with what is missing."""
    last: dict[str, int] = {}
    moved = time.monotonic()
    while True:
        stored = (await _rows(connection, "stored", replay))[0]
        if stored != last:
            last, moved = stored, time.monotonic()
        quiet_s = time.monotonic() - moved
        complete = (
            stored["rows"] >= counts.answered
            and stored["feedback"] >= counts.told
            and stored["in_ledger"] >= counts.asked
        )
        if complete and (stored["answered_by_model"] >= counts.answered or quiet_s > SHADOWS_S):
            return
        if quiet_s > STALLED_S:
            rows = f"{stored['rows']} of {counts.answered} rows"
            msg = f"the database has stopped filling: {rows}, {stored['feedback']} of {counts.told} feedback events"
            raise DemoStalled(msg)
        await asyncio.sleep(LOOK_S)


async def measure(connection: Connection, replay: Replay, agent: Agent) -> dict[str, Any]:
    """The fields of `Result` that come from the database."""
    sides = [Side(**row) for row in await _rows(connection, "sides", replay)]
    everything = next((side for side in sides if side.source is None), None)
    known = [
        each
        for each in await read.labelled(connection, AGENT, replay.since)
        if each.decision_id.startswith(replay.run)
    ]
    (ledger,) = await _rows(connection, "ledger", replay)
    return {
        "sides": sides,
        "rows": everything.decisions if everything else 0,
        "labelled": len(known),
        "twins": twins(known),
        "memory": memory(known, await _features(connection, replay), agent),
        "example": example(known),
        "ledger": ledger,
        "differences": await _differences(connection, replay),
        "fallbacks": {row["name"]: row["decisions"] for row in await _rows(connection, "fallbacks", replay)},
        "signals": {row["name"]: row["decisions"] for row in await _rows(connection, "signals", replay)},
    }


async def _differences(connection: Connection, replay: Replay) -> list[str]:
    if not replay.own_database:
        return []
    async with translated():
        found = [*await ledger_check(connection, grace_s=0), *await aggregates_check(connection)]
    return [f"{each.what}, {each.where}: {each.found} instead of {each.expected}" for each in found]


def twins(known: list[read.Labelled]) -> Twins | None:
    """Both arms on the decisions that both answered; None where there is none."""
    pairs = [each for each in known if each.ml is not None]
    if not pairs:
        return None
    truth = np.array([each.label == NEEDED for each in pairs])
    rules = np.array([each.rules == NEEDED for each in pairs])
    model = np.array([each.ml == NEEDED for each in pairs])
    return Twins(
        n=len(pairs),
        positives=int(truth.sum()),
        in_shadow=sum(each.ml_in_shadow for each in pairs),
        rules=_arm(truth, rules),
        model=_arm(truth, model),
        model_minus_rules=evaluate.paired_difference(truth, rules, model, COSTS),
    )


def _arm(truth: evaluate.Flags, said: evaluate.Flags) -> Arm:
    return Arm(
        accuracy=evaluate.accuracy(truth, said),
        balanced_accuracy=evaluate.balanced_accuracy(truth, said),
        success=evaluate.success(truth, said, COSTS),
    )


async def _features(connection: Connection, replay: Replay) -> dict[str, Row]:
    rows = await _rows(connection, "features", replay)
    return {row["decision_id"]: tuple(float(row["features"][name]) for name in NAMES) for row in rows}


def memory(known: list[read.Labelled], rows: Mapping[str, Row], agent: Agent) -> Memory | None:
    """From the features that were seen, asked again without what was remembered; None where the model is not there."""
    pairs = [each for each in known if each.ml is not None and each.decision_id in rows]
    if not pairs or agent.model is None:
        return None
    forgotten = forgetful([rows[each.decision_id] for each in pairs])
    model = MlDecider.load(agent.model, agent.predictions)
    truth = np.array([each.label == NEEDED for each in pairs])

    def added(answers: Sequence[Answer], said: list[str | None]) -> evaluate.Difference:
        without = np.array([answer.prediction == NEEDED for answer in answers])
        return evaluate.paired_difference(truth, without, np.array([each == NEEDED for each in said]), COSTS)

    return Memory(
        rules=added(agent.rules.decide(forgotten), [each.rules for each in pairs]),
        model=added(model.decide(forgotten), [each.ml for each in pairs]),
    )


def example(known: list[read.Labelled]) -> str | None:
    """A decision of which rules and model think differently, the surest of the model's first; else any."""
    split = [each for each in known if each.ml is not None and each.ml != each.rules]
    served = [each for each in split if each.source == "ml"] or split
    if served:
        right = [each for each in served if each.ml == each.label] or served
        return max(right, key=lambda each: (abs((each.ml_score or 0.5) - 0.5), each.decision_id)).decision_id
    return known[-1].decision_id if known else None


async def _rows(connection: Connection, query: str, replay: Replay) -> list[dict[str, Any]]:
    async with translated(), connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL[query], replay.values())
        return await cursor.fetchall()
