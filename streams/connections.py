"""aiokafka on uvloop: a write to a connection that is gone raises what the client knows how to take."""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

_send = AIOKafkaConnection.send


def install() -> None:
    """For all connections of this process. Safe to call again."""
    AIOKafkaConnection.send = _say_what_is_lost


def _say_what_is_lost(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """Asyncio's own transports let such a write pass in silence, and the reader notices the end.

    uvloop's raise RuntimeError, which ended the client's background tasks for good: no metadata, nothing sent.
    """
    try:
        return _send(self, request, expect_response)
    except KafkaError:  # which is a RuntimeError too
        raise
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        msg = f"connection to {self.host}:{self.port} is gone: {error}"
        raise KafkaConnectionError(msg) from error
