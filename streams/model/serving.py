"""The server's inside: requests queue in two lanes and are scored one after another, in one thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final, cast

import numpy as np

from pointsman.streams.model.loading import Loaded
from pointsman.streams.model.observe import ServerMetrics
from pointsman.streams.model.protocol import (
    FRAME_BYTES_MAX,
    VERSION,
    FrameReader,
    Hello,
    Kind,
    Lane,
    ProtocolError,
    Request,
    Status,
    decode_request,
    encode_failure,
    encode_hello,
    encode_scores,
    kind_of,
)

logger = logging.getLogger(__name__)

PENDING_MAX: Final = 64
"""Requests of one connection that wait here; while there are more, nothing is read from it. A client has few
in flight: this many are a client that has gone wrong, and its memory must not become ours."""
UNREAD_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX
"""Answers that a client does not read; above, it is hung up on."""
STRETCH_S: Final = 0.0005
"""Answers of so long a time go out together, and are read together: a batch of fifty agents asks fifty small
questions. Then the sockets are read, for a served request may have come that goes before shadow ones."""
TEXT_MAX: Final = 1_000
"""Characters of an error text; some libraries put whole matrices into theirs."""
_F64: Final = np.dtype("<f8")


class ModelServer:
    """Answers requests. Served ones go first, shadow ones after."""

    def __init__(self, loaded: Loaded, metrics: ServerMetrics) -> None:
        self._loaded = loaded
        self._metrics = metrics
        self._queues: tuple[deque[tuple[ServerConnection, Request]], ...] = tuple(deque() for _ in Lane)
        self._working = False
        infos = [model.info for model in loaded.models.values()]
        self.hello = encode_hello(Hello(protocol=VERSION, models=infos, broken=loaded.broken))
        metrics.loaded(infos, loaded.broken)

    def connection(self) -> ServerConnection:
        """A protocol for one more client."""
        return ServerConnection(self)

    def submit(self, connection: ServerConnection, request: Request) -> None:
        """Queue a request."""
        self._queues[request.lane].append((connection, request))
        if not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Answer for a while, each time the longest waiting request of the first lane that has any, and come back."""
        until = time.perf_counter() + STRETCH_S
        try:
            while (queue := next((queue for queue in self._queues if queue), None)) is not None:
                connection, request = queue.popleft()
                if not connection.closed:  # whoever hung up needs no answer
                    connection.send(self._answer(request))
                if time.perf_counter() >= until:
                    break
        finally:  # whatever fails, as for want of memory: the others are answered
            self._working = any(self._queues)
            if self._working:
                asyncio.get_running_loop().call_soon(self._work)

    def _answer(self, request: Request) -> bytes:
        began = time.perf_counter()
        status, body = self._score(request)
        agent = request.agent if status is not Status.NO_MODEL else "unknown"  # labels are bounded
        self._metrics.answered(agent, request.lane, status, request.rows, time.perf_counter() - began)
        if status is Status.OK:
            return encode_scores(request.id, body)
        logger.warning(
            "request %d for %s: %s", request.id, request.agent[:100], body.decode(errors="replace")
        )
        return encode_failure(request.id, status, body.decode(errors="replace"))

    def _score(self, request: Request) -> tuple[Status, bytes]:
        """The scores as bytes, or a text that says why there are none."""
        model = self._loaded.models.get(request.agent)
        if model is None:
            why = self._loaded.broken.get(request.agent, "this server has no model for the agent")
            return Status.NO_MODEL, why[:TEXT_MAX].encode()
        if request.columns != model.info.features:
            return Status.ERROR, b"rows of %d columns, not %d" % (request.columns, model.info.features)
        matrix = np.frombuffer(request.data, _F64).reshape(request.rows, request.columns).astype(np.float64)
        try:
            scores = np.asarray(model.score(matrix), _F64)
        except Exception as error:  # noqa: BLE001 - a model may fail in any way; the answer says how
            return Status.ERROR, f"{type(error).__name__}: {error}"[:TEXT_MAX].encode()
        if scores.shape != (request.rows,):
            return Status.BAD_OUTPUT, f"shape {scores.shape} for {request.rows} rows".encode()
        return Status.OK, scores.tobytes()


class ServerConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: ModelServer) -> None:
        self.closed = False
        self._server = server
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._pending = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol: say hello."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._server.hello)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self.closed = True

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol: queue every complete request; hang up on what is none."""
        try:
            for body in self._reader.feed(data):
                self._receive(body)
        except ProtocolError as error:
            logger.error("hung up on a client: %s", error)
            self._hang_up()

    def send(self, answer: bytes) -> None:
        """Answer the oldest request that is pending here."""
        assert self._transport is not None
        self._transport.write(answer)
        self._pending -= 1
        if self._pending == PENDING_MAX:
            self._transport.resume_reading()
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            logger.error("hung up on a client that does not read its answers")
            self._hang_up()

    def _receive(self, body: bytes) -> None:
        kind = kind_of(body)
        if kind is not Kind.REQUEST:
            msg = f"a client sends requests, not {kind.name.lower()}"
            raise ProtocolError(msg)
        self._server.submit(self, decode_request(body))
        self._pending += 1
        if self._pending == PENDING_MAX + 1:
            assert self._transport is not None
            self._transport.pause_reading()

    def _hang_up(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()
