"""Shadow answers that are not published are counted, each with its reason."""

from __future__ import annotations

import pytest

from pointsman.streams import metrics
from pointsman.streams.decisions import later
from pointsman.streams.model.failure import ModelFailure
from pointsman.streams.output import Committed
from tests.builders import Score, valid
from tests.unit.streams.decisions.decision_world import TP, World
from tests.unit.streams.decisions.test_work import outcomes, process, raising


class Missed:
    """How many were given up for a reason since this was made."""

    def __init__(self, reason: str, agent: str = "small") -> None:
        self._counter = metrics.SHADOWS_MISSED.labels(agent, reason)
        self._before = self._counter._value.get()

    def count(self) -> float:
        return float(self._counter._value.get() - self._before)


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (Score(shadow=raising(ModelFailure("busy"))), "busy"),
        (Score(shadow=raising(ModelFailure("model_timeout"))), "model_timeout"),
        (Score(shadow=raising(RuntimeError("a bug"))), "model_error"),
        (Score(shadow=lambda _rows: []), "model_bad_output"),
        (None, "model_unavailable"),
    ],
)
async def test_a_shadow_answer_that_does_not_come_is_counted(scorer: Score | None, reason: str) -> None:
    world, missed = World(scorer=scorer), Missed(reason)
    await process(world, valid("a"), valid("b", 1))
    await world.pump()
    await process(world, final=True)
    assert (missed.count(), world.broker.shadows(), world.work._later.asking) == (2, [], set())


async def test_shadow_answers_above_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later, "SHADOW_ROWS_MAX", 7)
    scorer = Score()
    scorer.gate.clear()
    world, missed = World(scorer=scorer), Missed("busy")
    for n in range(10):
        await process(world, valid(f"a{n}", 2 * n), valid(f"b{n}", 2 * n + 1))
        await world.pump()
    assert (sum(scorer.shadowed), missed.count()) == (6, 14), (
        "three questions of two, and seven that were not put"
    )
    await world.work.close()


async def test_shadow_answers_that_a_restart_throws_away_are_counted() -> None:
    world, missed = World(scorer=Score()), Missed("restart", "any")
    await process(world, valid("a"), valid("b", 1))
    await world.pump()
    await world.work.restore(Committed({TP: world.broker.position}, world.broker.metadata))
    await process(world, final=True)
    assert (missed.count(), world.broker.shadows()) == (2, [])


async def test_those_that_were_asked_along_with_candidates_are_counted_where_the_model_failed() -> None:
    world, missed = (
        World(scorer=Score(served=raising(ModelFailure("model_timeout")))),
        Missed("model_timeout"),
    )
    world.flag(50, 1)
    found = outcomes(await process(world, *(valid(f"r{n}", n) for n in range(10))))
    control = sum(each.arm == "control" for each in found)
    assert 0 < control < 10
    assert missed.count() == control, "a candidate's own is a fallback, and no shadow"


@pytest.mark.parametrize("begun", [True, False])
async def test_shadow_questions_under_way_at_the_end_are_counted(begun: bool) -> None:
    scorer = Score()
    scorer.gate.clear()
    world, missed = World(scorer=scorer), Missed("restart")
    await process(world, valid("a"), valid("b", 1))
    if begun:
        await world.pump()
    await world.work.close()
    assert (missed.count(), world.work._later.asking) == (2, set())


async def test_shadow_answers_that_were_not_published_at_the_end_are_counted() -> None:
    world, missed = World(scorer=Score()), Missed("restart", "any")
    await process(world, valid("a"), valid("b", 1))
    await world.pump()
    await world.work.close()
    assert missed.count() == 2
