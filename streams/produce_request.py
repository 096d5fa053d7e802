"""aiokafka's produce requests, sent in pieces: on its own way to the socket it copies the messages of a request eight times."""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import String
from aiokafka.util import wait_for

VERSIONS: Final = range(3, 8)
"""Those with a transactional id, which all look alike."""
_ACKS_TIMEOUT: Final = struct.Struct(">hi")
_COUNT: Final = struct.Struct(">i")
_PARTITION_SIZE: Final = struct.Struct(">ii")
_text: Final = String("utf-8").encode


def pieces(request: Any) -> list[bytes | bytearray]:
    """The bytes of a request (one of aiokafka's structs), the batches as they are and not copied."""
    if request.API_VERSION not in VERSIONS:
        return [request.encode()]
    found: list[bytes | bytearray] = [
        _text(request.transactional_id),
        _ACKS_TIMEOUT.pack(request.required_acks, request.timeout),
        _COUNT.pack(len(request.topics)),
    ]
    for topic, partitions in request.topics:
        found += (_text(topic), _COUNT.pack(len(partitions)))
        for partition, records in partitions:
            found += (_PARTITION_SIZE.pack(partition, len(records)), records)
    return found


def send(connection: AIOKafkaConnection, request: ProduceRequest) -> Awaitable[Any]:
    """As an open connection's own `send`; an awaitable of the answer."""
    made = request.prepare(connection._versions)  # noqa: SLF001 - the client has no public way
    number = connection._next_correlation_id()  # noqa: SLF001
    header = made.build_request_header(correlation_id=number, client_id=connection._client_id)  # noqa: SLF001
    parts = [header.encode(), *pieces(made)]
    connection._writer.writelines((_COUNT.pack(sum(map(len, parts))), *parts))  # noqa: SLF001
    answer = connection._loop.create_future()  # noqa: SLF001
    connection._requests.append((number, made, answer))  # noqa: SLF001
    waits: Awaitable[Any] = wait_for(answer, connection._request_timeout)  # noqa: SLF001
    return waits
