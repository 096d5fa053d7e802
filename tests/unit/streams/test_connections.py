"""A connection that is gone is said to be, whatever the event loop raises."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from pointsman.streams import connections, loop


class Request:
    """What the client asks of a request, with as little as it needs."""

    def prepare(self, _versions: Any) -> Any:
        header = SimpleNamespace(encode=lambda: b"")
        return SimpleNamespace(build_request_header=lambda **_: header, encode=lambda: b"?")


async def gone(request: Any) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=1_000)
    connection._versions = {0: (0, 7)}
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._read_task = asyncio.create_task(asyncio.sleep(0))
    connection._writer.transport.abort()
    await asyncio.sleep(0.01)
    with pytest.raises(KafkaConnectionError, match="gone"):
        connection.send(request)
    assert not connection.connected()
    with pytest.raises(KafkaConnectionError):
        connection.send(MetadataRequest([]))
    server.close()


def test_a_write_to_a_connection_that_is_gone_is_a_lost_connection() -> None:
    connections.install()
    connections.install()  # safe
    loop.run(gone(Request()))
    loop.run(gone(ProduceRequest("t", -1, 1_000, [("topic", [(0, b"batch")])])))


def test_every_process_of_ours_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AIOKafkaConnection, "send", connections._send)
    loop.run(gone(Request()))
