"""The client against servers of every kind: what it answers, that it holds its deadline, how it recovers."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pointsman.streams.model.address import Address
from pointsman.streams.model.breaker import BreakerPolicy, State
from pointsman.streams.model.client import ModelClient, ModelFailure
from pointsman.streams.model.connection import connect
from pointsman.streams.model.protocol import (
    VERSION,
    Hello,
    Lane,
    ModelInfo,
    Request,
    Response,
    Status,
    encode_failure,
    encode_hello,
    encode_request,
    encode_scores,
    frame,
)
from tests.unit.streams.model.model_servers import (
    HANG_S,
    HELLO,
    Peer,
    Script,
    first_column,
    our_server,
    scripted,
    socket_folder,
)

ROW = (0.25, 0.0, 0.0)
NEVER_S = 3_600.0


@contextlib.asynccontextmanager
async def client_of(address: str, **options: Any) -> AsyncIterator[ModelClient]:
    client = ModelClient(address, **{"deadline_ms": 100, **options})
    await client.start()
    try:
        async with asyncio.timeout(HANG_S * 2):
            yield client
    finally:
        await client.stop()


@contextlib.asynccontextmanager
async def connected(script: Script, **options: Any) -> AsyncIterator[ModelClient]:
    async with scripted(script) as address, client_of(address, **options) as client:
        assert await client.ready(HANG_S)
        yield client


async def reason_of(client: ModelClient, *rows: tuple[float, ...], agent: str = "plain") -> str:
    with pytest.raises(ModelFailure) as failure:
        async with asyncio.timeout(HANG_S):
            await client.score(agent, rows or [ROW])
    return failure.value.reason


async def until(what: Any) -> None:
    async with asyncio.timeout(HANG_S):
        while not what():
            await asyncio.sleep(0.005)


async def good(peer: Peer) -> None:
    peer.send(HELLO)
    while True:
        peer.answer(await peer.request())


async def mute(peer: Peer) -> None:
    peer.send(HELLO)
    await peer.silence()


def sends(data: bytes) -> Script:
    async def script(peer: Peer) -> None:
        peer.send(HELLO)
        await peer.request()
        peer.send(data)
        await peer.silence()

    return script


def answers(*scores: float) -> Script:
    async def script(peer: Peer) -> None:
        peer.send(HELLO)
        while True:
            request = await peer.request()
            peer.send(encode_scores(request.id, struct.pack(f"<{len(scores)}d", *scores)))

    return script


async def test_scores_come_in_the_order_of_the_rows_with_the_models_version() -> None:
    async with our_server() as (address, _), client_of(address, deadline_ms=5_000) as client:
        assert await client.ready(HANG_S)
        rows = [(n / 1000, 0.0, 0.0) for n in range(1000)]
        scores = await client.score("plain", rows)
        assert scores.values == [row[0] for row in rows]
        assert scores.version == client.available("plain") == "2026.11.1"
        assert (await client.score("plain", [])).values == []


async def test_many_calls_at_once_each_get_their_own_answer_whatever_the_order() -> None:
    async def backwards(peer: Peer) -> None:
        peer.send(HELLO)
        requests = [await peer.request() for _ in range(50)]
        for request in reversed(requests):
            peer.answer(request)
        await peer.silence()

    async with connected(backwards, deadline_ms=5_000) as client:
        calls = [client.score("plain", [(n / 50, 0.0, 0.0)] * (n + 1)) for n in range(50)]
        found = await asyncio.gather(*calls)
        assert [scores.values for scores in found] == [[n / 50] * (n + 1) for n in range(50)]


async def test_without_a_server_every_request_is_refused_and_none_waits() -> None:
    with socket_folder() as folder:
        async with client_of(f"unix:{folder}/none") as client:
            assert not await client.ready(0.01)
            assert await reason_of(client) == "model_unavailable"
            assert client.available("plain") is None
            assert client.breaker("plain") is State.CLOSED


async def test_a_silent_server_costs_one_deadline_then_nothing() -> None:
    requests: list[Request] = []

    async def count(peer: Peer) -> None:
        peer.send(HELLO)
        while True:
            requests.append(await peer.request())

    async with connected(count, breaker=BreakerPolicy(open_s=NEVER_S, open_first_s=NEVER_S)) as client:
        assert await reason_of(client) == "model_timeout"
        assert client.breaker("plain") is State.OPEN
        for _ in range(20):
            assert await reason_of(client) == "breaker_open"
        assert len(requests) == 1


@pytest.mark.parametrize(
    "part", [b"\x10", struct.pack("<IB", 22, 3) + b"half"], ids=["half head", "half frame"]
)
async def test_half_a_frame_is_a_timeout(part: bytes) -> None:
    async with connected(sends(part)) as client:
        assert await reason_of(client) == "model_timeout"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
        struct.pack("<I", 2**31) + b"x" * 1000,
        frame(b"\x03short"),
        frame(b"\x02" + b"\0" * 40),
        HELLO,
    ],
    ids=["garbage", "oversized", "short response", "a request", "a second hello"],
)
async def test_what_is_no_answer_is_bad_output_and_ends_the_connection(data: bytes) -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await sends(data)(peer)

    async with connected(script, deadline_ms=HANG_S * 1000) as client:
        assert await reason_of(client) == "model_bad_output"
        await until(lambda: connections == 2)


@pytest.mark.parametrize(
    "scores",
    [
        (float("nan"), 0.5),
        (0.5, float("nan")),
        (0.5, float("inf")),
        (float("-inf"), float("inf")),
        (0.5, 1.1),
        (-0.1, 0.5),
        (0.5,),
        (0.5, 0.5, 0.5),
        (),
    ],
)
async def test_scores_that_are_no_probabilities_one_a_row_are_bad_output(scores: tuple[float, ...]) -> None:
    async with connected(
        answers(*scores), breaker=BreakerPolicy(open_s=NEVER_S, open_first_s=NEVER_S)
    ) as client:
        for _ in range(3):
            assert client.breaker("plain") is State.CLOSED
            assert await reason_of(client, ROW, ROW) == "model_bad_output"
        assert await reason_of(client, ROW, ROW) == "breaker_open"


async def test_a_server_that_reads_nothing_cannot_hold_the_writer_beyond_the_deadline() -> None:
    async def deaf(peer: Peer) -> None:
        peer.send(HELLO)
        await peer.deafness()

    async with connected(deaf) as client:
        assert await reason_of(client, *[ROW] * 200_000) == "model_timeout"


async def test_a_late_answer_is_dropped_and_does_not_answer_the_next_request() -> None:
    async def late(peer: Peer) -> None:
        peer.send(HELLO)
        first, second = await peer.request(), await peer.request()
        peer.answer(first)
        peer.answer(second)
        await peer.silence()

    async with scripted(late) as address:
        connection, _ = await connect(Address.parse(address), HANG_S)
        first = encode_request(1, Lane.SERVED, "plain", 3, [(0.1, 0, 0)])
        failure = (await connection.ask({1: first}, 0.01))[1]
        assert isinstance(failure, ModelFailure)
        assert failure.reason == "model_timeout"
        second = encode_request(2, Lane.SERVED, "plain", 3, [(0.2, 0, 0)])
        response = (await connection.ask({2: second}, HANG_S))[2]
        assert isinstance(response, Response)
        assert (response.id, response.scores) == (2, [0.2])
        connection.close()


async def test_a_lost_connection_fails_what_is_in_flight_at_once_and_leaves_the_breaker_closed() -> None:
    async def hang_up(peer: Peer) -> None:
        peer.send(HELLO)
        for _ in range(5):
            await peer.request()

    async with connected(hang_up, deadline_ms=HANG_S * 1000) as client:
        found = await asyncio.gather(
            *(client.score("plain", [ROW]) for _ in range(5)), return_exceptions=True
        )
        assert [getattr(failure, "reason", None) for failure in found] == ["model_unavailable"] * 5
        assert client.breaker("plain") is State.CLOSED


async def test_errors_of_the_model_and_a_missing_model_have_their_own_reasons() -> None:
    async def refuse(peer: Peer) -> None:
        peer.send(HELLO)
        peer.send(encode_failure((await peer.request()).id, Status.ERROR, "ValueError: no"))
        peer.send(encode_failure((await peer.request()).id, Status.NO_MODEL, "none"))
        peer.send(encode_failure((await peer.request()).id, Status.BAD_OUTPUT, "shape"))
        await peer.silence()

    async with connected(refuse) as client:
        assert await reason_of(client) == "model_error"
        assert await reason_of(client) == "model_unavailable"
        assert await reason_of(client) == "model_bad_output"
        assert await reason_of(client, agent="other") == "model_unavailable"


@pytest.mark.parametrize("row", [(1.0,), (1.0, 2.0, 3.0, 4.0), (1.0, None, 2.0)])
async def test_rows_the_model_cannot_take_are_an_error_that_says_nothing_of_the_model(row: Any) -> None:
    async with connected(good) as client:
        for _ in range(5):
            assert await reason_of(client, row) == "model_error"
        assert (await client.score("plain", [ROW])).values == [0.25]


async def test_a_cancelled_call_disturbs_no_other() -> None:
    async with connected(good, deadline_ms=HANG_S * 1000) as client:
        call = asyncio.create_task(client.score("plain", [(0.1, 0.0, 0.0)]))
        await asyncio.sleep(0)
        call.cancel()
        assert (await client.score("plain", [ROW])).values == [0.25]
        assert client.breaker("plain") is State.CLOSED


async def test_the_breaker_closes_by_a_probe_off_the_path_with_the_last_good_row() -> None:
    asked: list[bytes] = []
    well = asyncio.Event()

    async def moody(peer: Peer) -> None:
        peer.send(HELLO)
        peer.answer(await peer.request())
        while True:
            request = await peer.request()
            asked.append(bytes(request.data))
            if well.is_set():
                peer.answer(request)

    changes: list[State] = []
    policy = BreakerPolicy(open_s=0.02)
    async with connected(
        moody, breaker=policy, silences_max=100, on_breaker=lambda _agent, _old, new: changes.append(new)
    ) as client:
        await client.score("plain", [(0.5, 0.25, 0.125), ROW])
        assert await reason_of(client, ROW) == "model_timeout"
        await until(lambda: changes.count(State.HALF_OPEN) >= 2)
        assert State.CLOSED not in changes
        well.set()
        await until(lambda: client.breaker("plain") is State.CLOSED)
        assert set(asked[1:]) == {struct.pack("<3d", 0.5, 0.25, 0.125)}
        assert (await client.score("plain", [ROW])).values == [0.25]
    assert changes[-2:] == [State.HALF_OPEN, State.CLOSED]


async def test_silence_ends_the_connection_and_a_new_server_is_probed_at_once() -> None:
    connections = 0

    async def first_mute_then_good(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await (mute if connections == 1 else good)(peer)

    async with connected(
        first_mute_then_good, breaker=BreakerPolicy(open_s=NEVER_S, open_first_s=NEVER_S), silences_max=2
    ) as client:
        both = await asyncio.gather(*(client.score("plain", [ROW]) for _ in range(2)), return_exceptions=True)
        assert {getattr(failure, "reason", None) for failure in both} == {"model_timeout"}
        await until(lambda: client.breaker("plain") is State.CLOSED)
        assert connections == 2


async def test_shadows_are_refused_when_enough_are_in_flight_and_never_open_the_breaker() -> None:
    async with connected(mute, shadow_deadline_ms=200, shadows_max=3, silences_max=100) as client:
        found = await asyncio.gather(
            *(client.score_shadow("plain", [ROW]) for _ in range(5)), return_exceptions=True
        )
        reasons = [getattr(failure, "reason", None) for failure in found]
        assert sorted(map(str, reasons)) == [
            "busy",
            "busy",
            "model_timeout",
            "model_timeout",
            "model_timeout",
        ]
        assert client.breaker("plain") is State.CLOSED
        with pytest.raises(ModelFailure, match="model_timeout"):  # the places are free again
            await client.score_shadow("plain", [ROW])


async def test_an_open_breaker_holds_for_shadows_too() -> None:
    async with connected(mute, breaker=BreakerPolicy(open_s=NEVER_S, open_first_s=NEVER_S)) as client:
        assert await reason_of(client) == "model_timeout"
        with pytest.raises(ModelFailure, match="breaker_open"):
            await client.score_shadow("plain", [ROW])


async def test_breakers_of_agents_are_their_own() -> None:
    infos = [ModelInfo(agent=name, version="1", sha256="0", features=3) for name in ("good", "mute")]

    async def choosy(peer: Peer) -> None:
        peer.send(encode_hello(Hello(protocol=VERSION, models=infos)))
        while True:
            request = await peer.request()
            if request.agent == "good":
                peer.send(encode_scores(request.id, first_column(request)))

    async with connected(choosy, breaker=BreakerPolicy(open_s=NEVER_S, open_first_s=NEVER_S)) as client:
        assert await reason_of(client, agent="mute") == "model_timeout"
        assert await reason_of(client, agent="mute") == "breaker_open"
        assert (await client.score("good", [ROW])).values == [0.25]


@pytest.mark.parametrize(
    "first",
    [
        encode_hello(Hello(protocol=VERSION + 1, models=[])),
        b"\0" * 100,
        frame(b"\x01{"),
        frame(b'\x01{"protocol":1,"models":[],"x":' + b"[" * 3_000),
        b"",
    ],
    ids=["another version", "zeros", "half a JSON", "deep", "nothing"],
)
async def test_a_server_with_no_proper_hello_is_not_used(first: bytes) -> None:
    visits = 0

    async def script(peer: Peer) -> None:
        nonlocal visits
        visits += 1
        peer.send(first)

    async with scripted(script) as address, client_of(address) as client:
        await until(lambda: visits >= 2)
        assert client.available("plain") is None
        assert await reason_of(client) == "model_unavailable"


async def test_a_server_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with socket_folder() as folder:
        place = folder / "s"
        async with client_of(f"unix:{place}") as client:
            for _ in range(2):
                async with scripted(good, place):
                    await until(lambda: client.available("plain"))
                    assert (await client.score("plain", [ROW])).values == [0.25]
                await until(lambda: client.available("plain") is None)
                place.unlink(missing_ok=True)


@pytest.mark.parametrize(("address", "longest_s"), [("unix:{}/none", 0.1), ("tcp://127.0.0.1:1", 2.0)])
async def test_a_server_on_this_machine_is_looked_for_more_often(
    address: str, longest_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "model-connection":
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", recorded)
    async with client_of(address.format(tmp_path)):
        while len(pauses) < 40:
            await sleep(0.001)

    assert longest_s / 2 <= max(pauses) <= longest_s


async def test_stop_fails_what_is_in_flight_and_may_be_called_twice() -> None:
    async with connected(mute, deadline_ms=HANG_S * 1000) as client:
        call = asyncio.create_task(client.score("plain", [ROW]))
        await asyncio.sleep(0.01)
        await client.stop()
        with pytest.raises(ModelFailure, match="model_unavailable"):
            await call
        await client.stop()
