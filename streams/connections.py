"""aiokafka on uvloop: what is large is written in pieces, and a write to a connection that is gone raises what the client knows."""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.produce import ProduceRequest

from pointsman.streams import produce_request

_send = AIOKafkaConnection.send


def install() -> None:
    """For all connections of this process. Safe to call again."""
    AIOKafkaConnection.send = _say_what_is_lost


def _say_what_is_lost(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """Asyncio's own transports let such a write pass in silence, and the reader notices the end.

    uvloop's raise RuntimeError, which ended the client's background tasks for good: no metadata, nothing sent.
    """
    try:
        if expect_response and type(request) is ProduceRequest and self._writer is not None:
            return produce_request.send(self, request)
        return _send(self, request, expect_response)
    except KafkaError:  # which is a RuntimeError too
        raise
    except (RuntimeError, OSError) as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        msg = f"connection to {self.host}:{self.port} is gone: {error}"
        raise KafkaConnectionError(msg) from error
