"""Who waits for the model, and how long: a batch for one deadline, nobody for a probe."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from pointsman.streams import worker
from pointsman.streams.model.breaker import BreakerPolicy, State
from pointsman.streams.model.client import ModelClient, ModelFailure
from pointsman.streams.model.protocol import VERSION, Hello, ModelInfo, encode_hello
from pointsman.streams.settings import Settings
from tests.builders import agent, valid
from tests.unit.streams.decisions.decision_world import World
from tests.unit.streams.decisions.test_work import outcomes, process
from tests.unit.streams.model.model_servers import HANG_S, HELLO, Peer, scripted

DEADLINE_S = 1.0
"""So long that a busy machine does not matter: a batch that waited twice is told from one that was woken late."""
NAMES = ("first", "second", "third")


async def test_a_batch_waits_for_the_model_until_the_deadline_of_the_settings_and_no_longer() -> None:
    """However many agents are in it: their questions wait together."""
    models = [ModelInfo(agent=name, version="7", sha256="0" * 64, features=2) for name in NAMES]

    async def mute(peer: Peer) -> None:
        peer.send(encode_hello(Hello(protocol=VERSION, models=models)))
        await peer.silence()

    async with scripted(mute) as address, contextlib.AsyncExitStack() as stack:
        settings = Settings(model_url=address, model_deadline_ms=1000 * DEADLINE_S)
        with_models = {name: agent(name, model=Path("any")) for name in NAMES}
        client: Any
        client, _ = await worker._model(settings, with_models, stack, asyncio.Event())
        assert await client.ready(HANG_S)
        world = World(agents=map(agent, NAMES), scorer=client)
        for name in NAMES:
            world.flag(100, 1, name)
        began = time.perf_counter()
        output = await process(world, *(valid(name, n, agent=name) for n, name in enumerate(NAMES)))
        waited_s = time.perf_counter() - began
    assert {each.fallback_reason for each in outcomes(output)} == {"model_timeout"}
    assert 0.95 * DEADLINE_S < waited_s < 2.5 * DEADLINE_S


async def test_while_a_probe_is_under_way_requests_are_refused_and_never_sent() -> None:
    sent: list[bytes] = []

    async def answers_once(peer: Peer) -> None:
        peer.send(HELLO)
        peer.answer(await peer.request())
        while True:
            sent.append(bytes((await peer.request()).data))

    async def refused() -> str:
        assert client.breaker("plain") is State.HALF_OPEN
        try:
            await client.score("plain", [(0.75, 0.0, 0.0)])
        except ModelFailure as failure:
            return failure.reason
        return "answered"

    asked: list[asyncio.Task[str]] = []

    def heard(_agent: str, _old: State, new: State) -> None:
        # The probe is sent next and is not answered, so this task's turn comes before its end.
        if new is State.HALF_OPEN:
            asked.append(asyncio.create_task(refused()))

    async with scripted(answers_once) as address:
        client = ModelClient(
            address, deadline_ms=50, breaker=BreakerPolicy(open_s=0.02), silences_max=1000, on_breaker=heard
        )
        await client.start()
        try:
            async with asyncio.timeout(HANG_S):
                assert await client.ready(HANG_S)
                await client.score("plain", [(0.25, 0.0, 0.0)])
                with contextlib.suppress(ModelFailure):
                    await client.score("plain", [(0.5, 0.0, 0.0)])
                while len(asked) < 3:
                    await asyncio.sleep(0.005)
                reasons = await asyncio.gather(*asked)
        finally:
            await client.stop()
    assert set(reasons) == {"breaker_open"}
    assert len({row[:8] for row in sent}) == 2, "the request that failed, and probes with the last good row"


@pytest.mark.parametrize("deadline_ms", [200, 450])
async def test_the_timers_of_a_question_end_with_its_deadline(deadline_ms: float) -> None:
    """To the millisecond, and however busy the machine: by what the event loop is asked for."""
    asked_s: list[float] = []

    class Timers:
        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self.create_future = loop.create_future

        def call_later(self, delay: float, *call: Any) -> asyncio.TimerHandle:
            asked_s.append(delay)
            return self._loop.call_later(delay, *call)

    async def mute(peer: Peer) -> None:
        peer.send(HELLO)
        await peer.silence()

    async with scripted(mute) as address:
        client = ModelClient(address, deadline_ms=deadline_ms)
        await client.start()
        assert await client.ready(HANG_S)
        connection: Any = client._connection
        connection._loop = Timers(connection._loop)
        with pytest.raises(ModelFailure):
            await client.score("plain", [(1.0, 2.0, 3.0)])
        await client.stop()
    assert len(asked_s) == 2
    assert 0 < sum(asked_s) <= deadline_ms / 1_000
