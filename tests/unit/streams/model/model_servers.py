"""Model servers for tests: ours in this process, and scripted ones that do what no good server does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from pointsman.streams.model.address import Address
from pointsman.streams.model.observe import ServerMetrics
from pointsman.streams.model.protocol import (
    VERSION,
    Hello,
    ModelInfo,
    Request,
    decode_request,
    encode_hello,
    encode_scores,
)
from pointsman.streams.model.serving import ModelServer
from tests.unit.streams.model import model_fakes

HELLO = encode_hello(
    Hello(protocol=VERSION, models=[ModelInfo(agent="plain", version="7", sha256="0" * 64, features=3)])
)
HANG_S = 20.0
"""A test that waits longer for something that must come at once has found a hang."""

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection, for a script."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> Request:
        """The next request."""
        (length,) = struct.unpack("<I", await self._reader.readexactly(4))
        return decode_request(await self._reader.readexactly(length))

    def send(self, data: bytes) -> None:
        """Any bytes at all."""
        self._writer.write(data)

    def answer(self, request: Request) -> None:
        """The first column, as a good server would."""
        self.send(encode_scores(request.id, first_column(request)))

    async def silence(self) -> None:
        """Say nothing until the client hangs up."""
        while await self._reader.read(65536):
            pass

    async def deafness(self) -> None:
        """Neither say nor read anything."""
        await asyncio.Event().wait()


def first_column(request: Request) -> bytes:
    """The answer that a good server gives."""
    return b"".join(
        bytes(request.data[at : at + 8]) for at in range(0, len(request.data), 8 * request.columns)
    )


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A folder with a short path: a Unix socket's may have 107 bytes, and pytest's own folders are deep."""
    folder = tempfile.mkdtemp(prefix="pm-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def scripted(script: Script, path: Path | None = None) -> AsyncIterator[str]:
    """A server that runs ``script`` for every connection; yields its address."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await script(Peer(reader, writer))
        writer.transport.abort()

    with socket_folder() as folder:
        place = path or folder / "s"
        server = await asyncio.start_unix_server(serve, place)
        try:
            yield f"unix:{place}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def our_server() -> AsyncIterator[tuple[str, ServerMetrics]]:
    """Our server with the fake models, in this event loop."""
    metrics = ServerMetrics()
    with socket_folder() as folder:
        address = f"unix:{folder}/s"
        server = await Address.parse(address).listen(ModelServer(model_fakes.load([]), metrics).connection)
        try:
            yield address, metrics
        finally:
            server.close()


def environment() -> dict[str, str]:
    """For a server process that is to find the fake models."""
    paths = [str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
