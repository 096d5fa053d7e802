"""Work that does not end is a stall, whatever the consumer says of the lag."""

from __future__ import annotations

import asyncio

import pytest

from pointsman.streams import partition
from pointsman.streams.output import Output
from tests.unit.streams.test_lane import ONE, World, records, until


async def test_a_batch_that_never_ends_is_a_stall_though_nothing_waits_behind_it() -> None:
    world = World(stalled_after_s=30)
    await world.own(ONE)
    loop = world.lane.loops[1]

    async def hang(_batch: object, *, final: bool) -> Output:
        await asyncio.Event().wait()
        raise AssertionError

    world.idle[1].process = hang  # type: ignore[method-assign]
    loop.offer(ONE, records(ONE, 5, 6)[ONE])
    world.consumer.at[ONE] = 7
    world.consumer.stable = {ONE: 7}
    await until(lambda: loop.buffered == 0)
    loop.last_progress -= 31
    await world.lane.measure()
    health = world.lane.health()
    assert (health["healthy"], health["stalled_partitions"], health["lag_records"]) == (False, [1], 2)
    world.lane._running[1].cancel()
    await world.lane.release()


async def test_a_commit_that_always_hangs_is_a_stall_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one deadline to the next it looks as if nothing were left to do."""
    monkeypatch.setattr(partition, "BACKOFF_S", (0.0,))
    world = World(stalled_after_s=30)
    tries = [0]

    async def take(batch: object, *, final: bool) -> Output:
        return Output(positions={ONE: 7}, metadata="x") if batch else Output()

    async def hang(_output: Output) -> None:
        tries[0] += 1
        await asyncio.Event().wait()

    await world.own(ONE)
    loop = world.lane.loops[1]
    loop._deadline_s = 0.05
    world.idle[1].process, world.idle[1].commit = take, hang  # type: ignore[method-assign]
    world.consumer.stable = {ONE: 7}
    loop.last_progress -= 31
    async with asyncio.timeout(20):
        while tries[0] < 4:
            if loop.ready.is_set() and world.consumer.at[ONE] == 5:
                world.consumer.at[ONE] = 7
                loop.offer(ONE, records(ONE, 5, 6)[ONE])
            await asyncio.sleep(0.005)
            await world.lane.measure()
            assert not world.lane.health()["healthy"]
    world.lane._running[1].cancel()
    await world.lane.release()
