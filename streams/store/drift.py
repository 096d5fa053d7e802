"""The drift watch in the sink: sampled decisions are counted with their rows, and compared with what models were trained on.

Which decisions are sampled is settled by their id alone, so it is the same ones after a restart and in every worker; an
outcome and a later answer of the model to the same request are sampled both or neither. Counts are written in the
transaction of the rows and of the position, so none counts twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from pointsman.models import drift
from pointsman.models.drift import Drift, Grid, Limits
from pointsman.models.watch import Watched
from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.streams.store.copyrow import micros
from pointsman.streams.store.pool import Connection, value
from pointsman.streams.store.queries import columns, load

_SQL: Final = load("drift.sql")
_MICROS_PER_HOUR: Final = 3_600_000_000
_HASHES: Final = 2**64
_features = msgspec.json.Decoder(dict[str, float])

Key: TypeAlias = tuple[str, str, str, int, int]
"""agent, model, digest of the reference, hour (whole hours since 2000-01-01 UTC), shard (the request's partition)."""
Added: TypeAlias = dict[Key, npt.NDArray[np.int64]]


class Drifted(NamedTuple):
    """How one feature of an agent stands."""

    agent: str
    drift: Drift


class Followed:
    """An agent whose drift is watched, made ready to count."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.grid = Grid(watched.reference)
        self.decider = f"ml@{watched.model}"
        self.width = len(watched.feature_names)
        self._picked = itemgetter(*watched.feature_names)
        self.name = (watched.agent, watched.model, watched.digest)

    def row(self, features: bytes) -> tuple[float, ...] | None:
        """The features in their order; None of what is not of this model's making."""
        try:
            found = self._picked(_features.decode(features))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
            return None
        return found if self.width > 1 else (found,)


class Watch:
    """Counts what a batch adds. Pure."""

    def __init__(self, watched: Iterable[Watched], percent: float) -> None:
        """``percent`` of the decisions are counted."""
        self._agents = {each.agent: Followed(each) for each in watched} if percent > 0 else {}
        self._below = int(percent / 100 * _HASHES)

    def __bool__(self) -> bool:
        """Whether anything is watched."""
        return bool(self._agents)

    def agents(self) -> Iterable[Followed]:
        """Those that are watched."""
        return self._agents.values()

    def sampled(self, decision_id: str) -> bool:
        """Whether a decision counts."""
        # A lone half of a letter, as JSON may have it, is no UTF-8.
        return xxhash.xxh3_64_intdigest(decision_id.encode(errors="surrogatepass")) < self._below

    def outcomes(self, outcomes: Sequence[Outcome]) -> Added:
        """Features of final outcomes, and scores of the model as far as they were known."""
        rows: dict[Key, list[tuple[float, ...]]] = {}
        scores: dict[Key, list[float]] = {}
        for outcome in outcomes:
            agent = self._agents.get(outcome.agent)
            if agent is None or outcome.status != "final" or not self.sampled(outcome.decision_id):
                continue
            key = (*agent.name, hour_of(outcome.decided_at), outcome.place.partition)
            if outcome.versions.features == agent.watched.feature_version:
                row = agent.row(outcome.features)
                if row is not None:
                    rows.setdefault(key, []).append(row)
            ml = outcome.answers.ml
            if ml is not None and ml.decider == agent.decider:
                scores.setdefault(key, []).append(ml.score)
        return self._counted(rows, scores)

    def shadows(self, shadows: Sequence[ShadowAnswer]) -> Added:
        """Scores of answers that came later, by the hour in which they came."""
        scores: dict[Key, list[float]] = {}
        for shadow in shadows:
            agent = self._agents.get(shadow.agent)
            if (
                agent is None
                or shadow.answer.decider != agent.decider
                or not self.sampled(shadow.decision_id)
            ):
                continue
            key = (*agent.name, hour_of(shadow.answered_at), shadow.place.partition)
            scores.setdefault(key, []).append(shadow.answer.score)
        return self._counted({}, scores)

    def _counted(
        self, rows: Mapping[Key, list[tuple[float, ...]]], scores: Mapping[Key, list[float]]
    ) -> Added:
        added: Added = {}
        for key in sorted({*rows, *scores}):
            agent = self._agents[key[0]]
            matrix = np.array(rows.get(key, []), dtype=np.float64).reshape(-1, agent.width)
            added[key] = agent.grid.counts(matrix, np.array(scores.get(key, []), dtype=np.float64))
        return added


def hour_of(moment: datetime) -> int:
    """Whole hours since 2000-01-01 UTC."""
    return micros(moment) // _MICROS_PER_HOUR


async def add(connection: Connection, added: Added) -> None:
    """Write counts. The caller holds the lock of their partitions, for outcomes and later answers share rows."""
    if added:
        # As text: to hand over hundreds of numbers one by one takes longer than to count them.
        rows = [(*key, "{" + ",".join(map(str, counts.tolist())) + "}") for key, counts in added.items()]
        await connection.execute(_SQL["add"], columns(rows))


async def look(connection: Connection, watch: Watch, limits: Limits, hours: int) -> list[Drifted]:
    """Compare the last hours with the references, and write what comes of it; of agents that decided something then."""
    end: datetime = await value(connection, _SQL["window"])
    found = []
    for agent in watch.agents():
        watched, grid = agent.watched, agent.grid
        window = {
            "agent": watched.agent,
            "model": watched.model,
            "reference": watched.digest,
            "end": end,
            "hours": hours,
        }
        cursor = await connection.execute(_SQL["counts"], window)
        counts = [n for (n,) in await cursor.fetchall()]
        if len(counts) != grid.size:
            continue
        split = grid.split(counts)
        drifts = drift.compare(watched.reference, split, limits)
        rows: list[dict[str, Any]] = [
            {
                **window,
                **msgspec.structs.asdict(each),
                "edges": list(bins.edges),
                "expected": list(bins.counts),
                "counts": list(observed),
            }
            for each, bins, observed in zip(drifts, watched.reference.bins, split, strict=True)
        ]
        await connection.cursor().executemany(_SQL["keep"], rows)
        found += [Drifted(watched.agent, each) for each in drifts]
    return found


async def forget(connection: Connection, hours: int, days: int) -> None:
    """Delete counts that are in no window any more, and what came of them after so many days; 0: never."""
    end: datetime = await value(connection, _SQL["window"])
    await connection.execute(_SQL["forget_counts"], {"end": end, "hours": hours})
    if days:
        await connection.execute(_SQL["forget"], {"days": days})
