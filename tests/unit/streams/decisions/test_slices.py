"""A large batch is computed in slices: the loop's sockets have their turn in between, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pointsman.models.decider import Row
from pointsman.streams.decisions import draft, work
from pointsman.streams.decisions.draft import Group
from pointsman.streams.decisions.emit import Emitter
from pointsman.streams.decisions.wire import Moment
from tests.builders import Score, agent, features, runtime, valid
from tests.unit.streams.decisions.decision_world import NAMES, TP, World
from tests.unit.streams.decisions.test_work import outcomes, process


def slices(patch: pytest.MonkeyPatch, size: int, stretch: int | None = None) -> None:
    """So many requests in a slice, and in what is computed without a pause."""
    patch.setattr(work, "SLICE_RECORDS", size)
    patch.setattr(work, "STRETCH_RECORDS", stretch or size)
    patch.setattr(work, "SLICE_ROWS", 1)


class Order:
    """Notes what happens: rows asked, and turns of whatever else the event loop serves."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.done = False

    def served(self, rows: Sequence[Row]) -> list[float]:
        self.seen.append(f"asked {len(rows)}")
        return [0.25] * len(rows)

    async def sockets(self) -> None:
        while not self.done:
            self.seen.append("sockets")
            await asyncio.sleep(0)


async def test_questions_go_out_and_sockets_are_served_while_the_rest_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices(monkeypatch, 3)
    monkeypatch.setattr(work, "GROUP_ROWS", 3)
    order = Order()
    world = World(scorer=Score(order.served))
    world.flag(100, 1)
    check = world.work._around.validator.check

    def noted(records: Any, *rest: Any) -> Any:
        order.seen.append(f"checks {len(records)}")
        return check(records, *rest)

    monkeypatch.setattr(world.work._around.validator, "check", noted)
    await process(world, *(valid(f"a{n}", n) for n in range(1)))
    order.seen.clear()
    others = asyncio.create_task(order.sockets())
    output = await process(world, *(valid(f"r{n}", n + 1) for n in range(7)))
    order.done = True
    await others
    assert [each for each in order.seen if each.startswith("checks")] == ["checks 3", "checks 3", "checks 1"]
    last_check = order.seen.index("checks 1")
    assert "asked 3" in order.seen[:last_check]
    assert "sockets" in order.seen[order.seen.index("checks 3") : last_check]
    assert [each.decision_id for each in outcomes(output)] == [f"r{n}" for n in range(7)]
    assert {each.source for each in outcomes(output)} == {"ml"}


@pytest.mark.parametrize(
    ("least", "asked"),
    [(100, {"small": [20], "other": [10]}), (8, {"small": [8, 8, 4], "other": [8, 2]})],
)
async def test_an_agent_with_few_requests_in_a_slice_is_one_question_and_each_gets_its_own_answer(
    least: int, asked: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices(monkeypatch, 6)
    monkeypatch.setattr(work, "GROUP_ROWS", least)
    seen: dict[str, list[int]] = {}

    class Noted(Score):
        async def score(self, agent: str, rows: Sequence[Row]) -> Any:
            seen.setdefault(agent, []).append(len(rows))
            return await super().score(agent, rows)

    world = World(scorer=Noted(lambda rows: [row[0] for row in rows]))
    for name in ("small", "other"):
        world.flag(100, 1, name)
    agents = ["small", "small", "other"] * 10
    records = [valid(f"r{n}", n, agent=name, input={"p": n / 30, "q": 1.0}) for n, name in enumerate(agents)]
    found = {each.decision_id: each for each in outcomes(await process(world, *records))}
    assert seen == asked
    for n in range(30):
        answer = found[f"r{n}"].answers.ml
        assert answer is not None
        assert answer.score == pytest.approx(n / 30, abs=1e-5), f"r{n} got the answer of another one"


@pytest.mark.parametrize("stretch", [4, 8])
async def test_a_slice_is_computed_before_the_next_is_read_whatever_agents_it_is_for(
    stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its bytes are in the processor's caches; what it was decoded to is given up with it."""
    slices(monkeypatch, 4, stretch)
    seen: list[str] = []
    accepted: list[Any] = []

    def noted(inputs: Sequence[Any]) -> list[Row]:
        seen.append(f"computes {len(inputs)}")
        return features(inputs)

    world = World(agents=[agent("small", features=noted), agent("other", features=noted)])
    check = world.work._around.validator.check

    def checks(records: Any, *rest: Any) -> Any:
        seen.append(f"checks {len(records)}")
        checked = check(records, *rest)
        accepted.extend(each for requests in checked.accepted.values() for each in requests)
        return checked

    monkeypatch.setattr(world.work._around.validator, "check", checks)
    await process(world, *(valid(f"r{n}", n, agent="other" if n % 4 == 3 else "small") for n in range(6)))
    assert seen == ["checks 4", "computes 3", "computes 1", "checks 2", "computes 2"]
    assert [each.input for each in accepted] == [None] * 6


async def test_an_agents_few_requests_of_each_slice_are_computed_once_there_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call for each handful would cost as much as what it computes."""
    slices(monkeypatch, 4, 8)
    monkeypatch.setattr(work, "SLICE_ROWS", 3)
    seen: list[str] = []

    def noted(name: str) -> Any:
        def computes(inputs: Sequence[Any]) -> list[Row]:
            seen.append(f"{name} {len(inputs)}")
            return features(inputs)

        return computes

    world = World(agents=[agent(name, features=noted(name)) for name in ("small", "other")])
    records = [valid(f"r{n}", n, agent="other" if n % 4 == 3 else "small") for n in range(16)]
    found = outcomes(await process(world, *records))
    assert seen == ["small 3", "small 3", "other 3", "small 3", "small 3", "other 1"]
    assert [each.decision_id for each in found] == [f"r{n}" for n in range(16)]


async def test_a_question_is_of_all_slices_of_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    slices(monkeypatch, 2, 6)
    monkeypatch.setattr(work, "GROUP_ROWS", 3)
    seen: list[int] = []

    def served(rows: Sequence[Row]) -> list[float]:
        seen.append(len(rows))
        return [0.25] * len(rows)

    world = World(scorer=Score(served))
    world.flag(100, 1)
    found = outcomes(await process(world, *(valid(f"r{n}", n) for n in range(9))))
    assert seen == [6, 3]
    assert [each.source for each in found] == ["ml"] * 9


async def test_what_fails_in_any_slice_is_a_dead_letter_and_the_others_are_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices(monkeypatch, 2)
    world = World()
    inputs = [{"p": 0.9, "text": "boom" if n in (0, 5) else ""} for n in range(7)]
    output = await process(world, *(valid(f"r{n}", n, input=each) for n, each in enumerate(inputs)))
    assert [each.decision_id for each in outcomes(output)] == ["r1", "r2", "r3", "r4", "r6"]
    assert [key for key, *_ in output.messages[NAMES.dead_letters, 0]] == [b"r0", b"r5"]


def test_the_time_for_features_is_that_of_all_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.5, 7.0, 7.25])
    monkeypatch.setattr(draft, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    group = Group(runtime(), None)
    group.compute([])
    group.compute([])
    assert group.features_ms == 750


async def test_outcomes_are_written_in_the_order_of_their_requests_and_sockets_have_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices(monkeypatch, 2)
    order, write = Order(), Emitter.write

    def noted(self: Emitter, i: int, moment: Moment) -> None:
        order.seen.append("writes")
        write(self, i, moment)

    monkeypatch.setattr(Emitter, "write", noted)
    world = World()
    others = asyncio.create_task(order.sockets())
    output = await process(world, *(valid(f"r{n}", n, agent="other" if n % 2 else "small") for n in range(6)))
    order.done = True
    await others
    assert [each.decision_id for each in outcomes(output)] == [f"r{n}" for n in range(6)]
    assert [each.agent for each in outcomes(output)] == ["small", "other"] * 3
    written = order.seen[order.seen.index("writes") :]
    assert "".join(each[0] for each in written).rstrip("s") == "wwswwsww", "two, and the sockets"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_a_batch_in_slices_is_the_batch_as_a_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    slices(monkeypatch, size)
    world = World(scorer=Score())
    world.flag(30, 1)
    records = [valid(f"r{n % 9}", n, **({"unit": f"u{n}"} if n % 4 == 0 else {})) for n in range(12)]
    records.append(valid("bad", 12, input={"p": "high"}))
    output = await process(world, *records)
    found = [(each.decision_id, each.arm, each.source) for each in outcomes(output)]
    assert found == await whole(records)
    assert [key for key, *_ in output.messages[NAMES.dead_letters, 0]].count(b"bad") == 1
    ledger = world.work._ledgers[TP.topic]
    assert (ledger.start, ledger.end, ledger.requests, ledger.difference()) == (0, 13, 13, 0)


async def whole(records: list[Any]) -> list[tuple[str, str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        slices(patch, 10_000)
        world = World(scorer=Score())
        world.flag(30, 1)
        output = await process(world, *records)
    return [(each.decision_id, each.arm, each.source) for each in outcomes(output)]


async def test_an_error_in_a_later_slice_keeps_its_name_and_leaves_no_question_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices(monkeypatch, 2)
    world = World(scorer=Score())
    world.flag(100, 1)
    await process(world, valid("first"))
    check = world.work._around.validator.check
    calls = iter([None, KeyError("second")])

    def fails(records: Any, *rest: Any) -> Any:
        if error := next(calls):
            raise error
        return check(records, *rest)

    monkeypatch.setattr(world.work._around.validator, "check", fails)
    before = asyncio.all_tasks()
    with pytest.raises(KeyError, match="second"):
        await process(world, *(valid(f"r{n}", n + 1) for n in range(4)))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
