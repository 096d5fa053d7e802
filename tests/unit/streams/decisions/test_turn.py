"""The turn: one at a time, finishing before beginning, and no turn is lost when somebody is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.decisions.turn import Turn


async def test_who_finishes_goes_before_who_begins_and_each_in_order() -> None:
    turn, seen = Turn(), []

    async def take(name: str, door: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        async with door():
            seen.append(name)
            await asyncio.sleep(0)

    async with turn.begin():
        tasks = [
            asyncio.create_task(take(name, turn.begin if name.startswith("b") else turn.finish))
            for name in ("b1", "b2", "f1", "b3", "f2")
        ]
        await asyncio.sleep(0)
        assert seen == []
    await asyncio.gather(*tasks)
    assert seen == ["f1", "f2", "b1", "b2", "b3"]


async def test_an_error_gives_the_turn_back() -> None:
    turn = Turn()
    with pytest.raises(KeyError):
        async with turn.begin():
            raise KeyError
    async with asyncio.timeout(1), turn.begin():
        pass


async def test_one_that_is_cancelled_as_it_is_handed_the_turn_passes_it_on() -> None:
    turn = Turn()

    async def take() -> None:
        async with turn.begin():
            await asyncio.sleep(0)

    async with turn.begin():
        first, second = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
    first.cancel()  # after the turn was handed to it, before it ran
    await asyncio.wait_for(second, 1)
    assert first.cancelled()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.none() | st.integers(0, 6)), max_size=12))
def test_never_two_at_a_time_and_everybody_who_stays_comes_through(
    plan: list[tuple[bool, int, int | None]],
) -> None:
    async def run() -> None:
        turn, inside, through = Turn(), 0, []

        async def take(number: int, finishes: bool, steps: int) -> None:
            nonlocal inside
            async with turn.finish() if finishes else turn.begin():
                inside += 1
                assert inside == 1
                try:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1
            through.append(number)

        tasks = [
            asyncio.create_task(take(at, finishes, steps)) for at, (finishes, steps, _) in enumerate(plan)
        ]
        for step in range(8):
            for task, (*_, cancelled_at) in zip(tasks, plan, strict=True):
                if cancelled_at == step:
                    task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert set(through) >= {at for at, (*_, cancelled_at) in enumerate(plan) if cancelled_at is None}
        async with asyncio.timeout(1), turn.finish():
            pass

    asyncio.run(run())
