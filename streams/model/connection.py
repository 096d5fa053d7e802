"""One connection of a client: requests in flight, answers matched by id, a deadline that always holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final, TypeAlias, cast

from pointsman.streams.model.address import Address
from pointsman.streams.model.failure import ModelFailure
from pointsman.streams.model.protocol import (
    FRAME_BYTES_MAX,
    FrameReader,
    Hello,
    Kind,
    ProtocolError,
    Response,
    decode_hello,
    decode_response,
    kind_of,
)

LAST_LOOK_S: Final = 0.001
"""Before a request is given up, the loop reads its sockets once more: where this process itself was busy past
the deadline, the answer lies there already and the model is not to blame. Timers count in milliseconds."""
UNSENT_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX
"""A server that reads so slowly gets no more; with the breaker open it is never reached."""


Answered: TypeAlias = Response | ModelFailure
"""What became of a request."""


class _Call:
    """Requests that were sent together and wait for one deadline; over once none is left."""

    __slots__ = ("found", "left", "over", "timer")

    def __init__(self, ids: Mapping[int, bytes], over: asyncio.Future[None]) -> None:
        self.left = set(ids)
        self.found: dict[int, Answered] = {}
        self.over = over
        self.timer: asyncio.TimerHandle | None = None

    def take(self, response: Response) -> None:
        """An answer; who asked runs once, when all are here."""
        if response.id not in self.left:  # given up already
            return
        self.left.remove(response.id)
        self.found[response.id] = response
        if not self.left and not self.over.done():
            self.over.set_result(None)

    def give_up(self, failure: ModelFailure) -> None:
        """What is left is not answered."""
        self.found.update(dict.fromkeys(self.left, failure))
        self.left.clear()
        if not self.over.done():
            self.over.set_result(None)


class Connection(asyncio.Protocol):
    """Open it with `connect`. A broken frame or ``silences_max`` timeouts without any word between end it."""

    def __init__(self, silences_max: int = 3) -> None:
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[Hello] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._calls: dict[int, _Call] = {}
        self._silences = 0
        self._silences_max = silences_max
        self._last_id = 0
        self._end = ModelFailure("model_unavailable", "the connection to the model server was lost")

    def next_id(self) -> int:
        """An id that this connection has not used."""
        self._last_id += 1
        return self._last_id

    async def ask(self, frames: Mapping[int, bytes], within_s: float) -> dict[int, Answered]:
        """Send requests, by their ids, in one write, and wait for their answers: ``within_s`` at most for all together.

        A batch of fifty agents asks fifty small questions; a write, a timer and a task for each of them cost as much
        as all else that is done for them.
        """
        if self._transport is None or self._transport.is_closing():
            return dict.fromkeys(frames, self._failure())
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            failure = ModelFailure("model_unavailable", "the model server does not read")
            return dict.fromkeys(frames, failure)
        call = _Call(frames, self._loop.create_future())
        call.timer = self._loop.call_later(within_s - LAST_LOOK_S, self._look_once_more, call)
        self._calls.update(dict.fromkeys(frames, call))
        try:
            # Never waits: what the socket does not take is buffered.
            self._transport.write(b"".join(frames.values()))
            await call.over
        finally:
            for id_ in frames:
                self._calls.pop(id_, None)
            call.timer.cancel()
        return call.found

    def close(self) -> None:
        """End it now; whoever waits gets ``model_unavailable``."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol: hand every complete frame to whom it is for."""
        try:
            for body in self._reader.feed(data):
                self._receive(body)
        except ProtocolError as error:
            self._broken(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol: fail all that is in flight."""
        for call in set(self._calls.values()):
            call.give_up(self._failure())
        if not self.hello.done():
            self._no_hello(exc or ConnectionError("the model server hung up before its hello"))
        if not self.closed.done():
            self.closed.set_result(None)

    def _receive(self, body: bytes) -> None:
        kind = kind_of(body)
        if kind is Kind.RESPONSE and self.hello.done():
            response = decode_response(body)
            if (
                call := self._calls.pop(response.id, None)
            ) is not None:  # else it came too late: nobody waits
                call.take(response)
        elif kind is Kind.HELLO and not self.hello.done():
            self.hello.set_result(decode_hello(body))
        else:
            msg = f"a frame of kind {kind.name.lower()} at the wrong moment"
            raise ProtocolError(msg)
        self._silences = 0

    def _broken(self, error: ProtocolError) -> None:
        self._end = ModelFailure("model_bad_output", str(error))
        if not self.hello.done():
            self._no_hello(error)
        self.close()

    def _no_hello(self, error: Exception) -> None:
        self.hello.set_exception(error)
        self.hello.exception()  # looked at: whoever connected may have gone, and asyncio would complain

    def _failure(self) -> ModelFailure:
        return ModelFailure(self._end.reason, self._end.detail)

    def _look_once_more(self, call: _Call) -> None:
        call.timer = self._loop.call_later(LAST_LOOK_S, self._give_up, call)

    def _give_up(self, call: _Call) -> None:
        if not call.left:  # its task has not run yet
            return
        call.give_up(ModelFailure("model_timeout", f"requests {sorted(call.left)} were not answered in time"))
        self._silences += 1
        if self._silences >= self._silences_max:
            self.close()


async def connect(address: Address, within_s: float, silences_max: int = 3) -> tuple[Connection, Hello]:
    """A connection whose server has said hello.

    Raises OSError (TimeoutError among them: nothing was heard within ``within_s``) or `ProtocolError`.
    """
    connection: Connection | None = None
    try:
        async with asyncio.timeout(within_s):
            _, connection = await address.connect(partial(Connection, silences_max))
            return connection, await connection.hello
    except BaseException:
        if connection is not None:
            connection.close()
        raise
