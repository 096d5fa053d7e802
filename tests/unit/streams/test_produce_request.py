"""Produce requests that are sent in pieces are the client's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest, ProduceResponse_v7
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams import connections, loop, produce_request
from pointsman.streams.produce_request import VERSIONS, pieces

texts = st.text(st.characters(codec="utf-8"), max_size=20)
topics = st.lists(
    st.tuples(
        texts, st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary() | st.binary().map(bytearray)))
    ),
    max_size=4,
)


@pytest.mark.parametrize("version", ProduceRequest._CLASSES)
@given(texts, st.integers(-1, 1), st.integers(0, 2**31 - 1), topics)
def test_a_request_is_what_the_client_would_send(version, id_, acks, timeout_ms, some) -> None:  # type: ignore[no-untyped-def]
    request = ProduceRequest(id_ if version.API_VERSION in VERSIONS else None, acks, timeout_ms, some)
    made = request.build(version)
    assert b"".join(pieces(made)) == made.encode()
    if version.API_VERSION in VERSIONS:
        sent = {id(piece) for piece in pieces(made)}
        assert all(id(records) in sent for _, partitions in some for _, records in partitions), "not copied"


async def received(request: ProduceRequest, **options: Any) -> tuple[bytes, Any]:
    """What a server gets of a request, and the answer that it gives, as the connection hands it on."""
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = await reader.readexactly(4)
        got.set_result(size + await reader.readexactly(int.from_bytes(size)))
        answer = got.result()[8:12] + ProduceResponse_v7([("t", [(0, 0, 5, -1, 0)])], 0).encode()
        writer.write(len(answer).to_bytes(4) + answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=5_000, client_id="me")
    connection._versions = {0: (3, 7)}
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._read_task = connection._create_reader_task()
    answer = await connection.send(request, **options)
    connection.close()
    server.close()
    return await got, answer


def test_the_frame_and_its_answer_are_those_of_the_clients_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches larger than a socket takes at once."""
    batch = bytearray(i % 251 for i in range(5_000_000))
    request = ProduceRequest("id", -1, 1_000, [("t", [(0, batch), (1, b"small")])])
    connections.install()
    sent: list[Any] = []
    send = produce_request.send
    monkeypatch.setattr(produce_request, "send", lambda *given: sent.append(given) or send(*given))
    mine = loop.run(received(request))
    assert len(sent) == 1
    monkeypatch.setattr(AIOKafkaConnection, "send", connections._send)
    its = asyncio.run(received(request))  # `loop.run` would install ours again
    assert AIOKafkaConnection.send is connections._send
    assert mine[0] == its[0]
    assert mine[1] == its[1]
    assert mine[1].topics == [("t", [(0, 0, 5, -1, 0)])]
