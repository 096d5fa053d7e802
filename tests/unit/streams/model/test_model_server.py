"""The server: one bad model, request or client harms no other; what is served overtakes shadows."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from pointsman.streams.model import serving
from pointsman.streams.model.address import Address
from pointsman.streams.model.client import ModelClient, ModelFailure
from pointsman.streams.model.connection import Connection, connect
from pointsman.streams.model.loading import Loaded, Model, find_loader
from pointsman.streams.model.observe import ServerMetrics
from pointsman.streams.model.protocol import (
    FRAME_BYTES_MAX,
    Lane,
    ModelInfo,
    Response,
    Status,
    encode_request,
    frame,
)
from pointsman.streams.model.serving import PENDING_MAX, ModelServer
from tests.unit.streams.model.model_servers import HANG_S, our_server

RAISES, NAN, SHORT, TEXT, RANGE = 1.0, 2.0, 3.0, 6.0, 7.0


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, ServerMetrics]]:
    async with our_server() as found:
        yield found


async def ask(
    connection: Connection, agent: str, *rows: tuple[float, ...], lane: Lane = Lane.SERVED
) -> Response:
    id_ = connection.next_id()
    found = await connection.ask({id_: encode_request(id_, lane, agent, len(rows[0]), rows)}, HANG_S)
    answer = found[id_]
    assert isinstance(answer, Response), answer
    return answer


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_the_hello_lists_models_with_version_checksum_and_width_and_what_is_broken(server: Any) -> None:
    connection, hello = await connect(Address.parse(server[0]), HANG_S)
    found = {model.agent: (model.version, model.sha256, model.features) for model in hello.models}
    assert found["plain"] == ("2026.11.1", "0" * 64, 3)
    assert hello.broken == {"broken": "ValueError: checksum"}
    connection.close()


async def test_requests_that_fail_are_answered_with_the_reason_and_others_go_on(server: Any) -> None:
    connection, _ = await connect(Address.parse(server[0]), HANG_S)
    cases: list[tuple[str, tuple[float, ...], Status, str]] = [
        ("obedient", (0.5, RAISES, 0), Status.ERROR, "RuntimeError: the model is out of order"),
        ("obedient", (0.5, TEXT, 0), Status.ERROR, "ValueError"),
        ("obedient", (0.5, SHORT, 0), Status.BAD_OUTPUT, "shape (0,) for 1 rows"),
        ("plain", (0.5, 0), Status.ERROR, "rows of 2 columns, not 3"),
        ("broken", (0.5, 0, 0), Status.NO_MODEL, "ValueError: checksum"),
        ("nobody", (0.5, 0, 0), Status.NO_MODEL, "no model"),
    ]
    for agent, row, status, text in cases:
        response = await ask(connection, agent, row)
        assert (response.status, text in response.text) == (status, True), response
        assert (await ask(connection, "plain", (0.5, 0, 0))).scores == [0.5]
    registry = server[1].registry
    count = value(registry, "pointsman_model_requests_total", agent="obedient", lane="served", status="error")
    assert count == 2
    assert (
        value(registry, "pointsman_model_requests_total", agent="unknown", lane="served", status="no_model")
        == 2
    )
    assert value(registry, "pointsman_model_rows_total", agent="plain", lane="served") == len(cases)
    assert value(registry, "pointsman_model_loaded", agent="plain", version="2026.11.1") == 1
    assert value(registry, "pointsman_model_broken", agent="broken") == 1
    connection.close()


@pytest.mark.parametrize("command", [NAN, RANGE])
async def test_what_a_model_makes_of_numbers_is_checked_by_the_client(server: Any, command: float) -> None:
    client = ModelClient(server[0], deadline_ms=HANG_S * 1000)
    await client.start()
    assert await client.ready(HANG_S)
    with pytest.raises(ModelFailure, match="model_bad_output"):
        await client.score("obedient", [(0.5, command, 0.0)])
    await client.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<I", FRAME_BYTES_MAX + 1),
        struct.pack("<I", 0),
        frame(b"\x02"),
        frame(b"\x01{}"),
        frame(struct.pack("<BBHIIQ", 2, 0, 5, 10, 3, 1) + b"plain" + b"\0" * 8),
        frame(struct.pack("<BBHIIQ", 2, 9, 5, 0, 3, 1) + b"plain"),
        frame(struct.pack("<BBHIIQ", 2, 0, 2, 0, 3, 1) + b"\xff\xff"),
    ],
)
async def test_a_client_that_sends_rubbish_is_hung_up_on_and_no_other(server: Any, data: bytes) -> None:
    address = Address.parse(server[0])
    other, _ = await connect(address, HANG_S)
    reader, writer = await asyncio.open_unix_connection(address.path)
    writer.write(data)
    async with asyncio.timeout(HANG_S):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await reader.readexactly(1_000_000)
    writer.close()
    assert (await ask(other, "plain", (0.5, 0, 0))).scores == [0.5]
    other.close()


async def test_half_a_request_waits_for_its_other_half(server: Any) -> None:
    reader, writer = await asyncio.open_unix_connection(Address.parse(server[0]).path)
    request = encode_request(5, Lane.SERVED, "plain", 3, [(0.5, 0, 0)])
    writer.write(request[:20])
    await writer.drain()
    (hello,) = struct.unpack("<I", await reader.readexactly(4))
    await reader.readexactly(hello)
    writer.write(request[20:])
    async with asyncio.timeout(HANG_S):
        answer = await reader.readexactly(4 + 14 + 8)
    assert struct.unpack("<d", answer[-8:]) == (0.5,)
    writer.close()


async def test_a_served_request_overtakes_shadows_that_wait(server: Any) -> None:
    connection, _ = await connect(Address.parse(server[0]), HANG_S)
    order: list[str] = []

    async def note(name: str, lane: Lane) -> None:
        await ask(connection, "plain", (0.5, 0, 0), lane=lane)
        order.append(name)

    shadows = [note(f"shadow {n}", Lane.SHADOW) for n in range(5)]
    await asyncio.gather(*shadows, note("served", Lane.SERVED))
    assert order == ["served", *(f"shadow {n}" for n in range(5))]
    connection.close()


async def test_more_requests_than_may_wait_are_all_answered(server: Any) -> None:
    connection, _ = await connect(Address.parse(server[0]), HANG_S)
    count = 5 * PENDING_MAX
    answers = await asyncio.gather(*(ask(connection, "plain", (n / count, 0, 0)) for n in range(count)))
    assert [answer.scores for answer in answers] == [[n / count] for n in range(count)]
    connection.close()


async def test_requests_of_a_client_that_hung_up_are_not_scored(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        serving, "STRETCH_S", 0.0
    )  # else a quick machine scores them all before it reads again
    address, metrics = server
    gone, _ = await connect(Address.parse(address), HANG_S)
    calls = [asyncio.create_task(ask(gone, "plain", (0.5, 0, 0), lane=Lane.SHADOW)) for _ in range(20)]
    await asyncio.sleep(0)
    gone.close()
    await asyncio.gather(*calls, return_exceptions=True)
    other, _ = await connect(Address.parse(address), HANG_S)
    await ask(other, "plain", (0.5, 0, 0), lane=Lane.SHADOW)
    rows = value(metrics.registry, "pointsman_model_rows_total", agent="plain", lane="shadow")
    assert rows is not None
    assert rows < 20
    other.close()


@pytest.mark.parametrize("name", ["nonsense", "json:nothing", "json:__name__"])
def test_a_loader_that_is_none_is_named(name: str) -> None:
    with pytest.raises((ValueError, ImportError), match=name.partition(":")[0]):
        find_loader(name)


@pytest.mark.parametrize(("each_ms", "at_once"), [(0.0, 5), (0.2, 3), (1.0, 1)])
async def test_small_requests_are_answered_together_and_long_ones_one_by_one(
    each_ms: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(serving, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def score(matrix: Any) -> Any:
        clock[0] += each_ms / 1000
        return matrix[:, 0]

    info = ModelInfo(agent="a", version="1", sha256="", features=1)
    server = ModelServer(Loaded({"a": Model(info, score)}), ServerMetrics())
    client, transport = server.connection(), Mock(get_write_buffer_size=lambda: 0)
    client.connection_made(transport)
    transport.write.reset_mock()
    for id_ in range(5):
        client.data_received(encode_request(id_, Lane.SERVED, "a", 1, [(0.5,)]))
    written = []
    while transport.write.call_count < 5:
        await asyncio.sleep(0)
        written.append(transport.write.call_count)
    assert written[0] == at_once
    assert not server._working


async def test_what_fails_beside_a_model_silences_no_other_request(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModelServer(Loaded({}), ServerMetrics())
    client, transport = server.connection(), Mock(get_write_buffer_size=lambda: 0)
    client.connection_made(transport)
    transport.write.reset_mock()
    answers = iter([MemoryError, b"answer"])

    def answer(_request: object) -> bytes:
        found = next(answers)
        if isinstance(found, bytes):
            return found
        raise found

    monkeypatch.setattr(server, "_answer", answer)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # which would print it
    for id_ in range(2):
        client.data_received(encode_request(id_, Lane.SERVED, "a", 1, [(0.5,)]))
    while server._working:
        await asyncio.sleep(0)
    transport.write.assert_called_once_with(b"answer")


def test_answers_are_counted_under_their_own_labels_time_after_time() -> None:
    metrics = ServerMetrics()
    for _ in range(2):
        for agent, lane, rows in (("a", Lane.SERVED, 1), ("a", Lane.SHADOW, 2), ("b", Lane.SERVED, 3)):
            metrics.answered(agent, lane, Status.OK, rows, 0.25)
            metrics.answered(agent, lane, Status.ERROR, rows, 0.25)
    found = partial(value, metrics.registry)
    for agent, lane, rows in (("a", "served", 2), ("a", "shadow", 4), ("b", "served", 6)):
        assert found("pointsman_model_rows_total", agent=agent, lane=lane) == rows
        for status in ("ok", "error"):
            assert found("pointsman_model_requests_total", agent=agent, lane=lane, status=status) == 2
    assert found("pointsman_model_seconds_sum", agent="a") == 1.0
    assert found("pointsman_model_seconds_count", agent="b") == 2
