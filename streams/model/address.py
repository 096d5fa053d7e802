"""Addresses of model servers: ``unix:/path`` or ``tcp://host:port``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from pointsman.schemas.errors import InvalidSetting

P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class Address:
    """Either a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises `InvalidSetting` for anything but the two forms."""
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(path=text.removeprefix("unix:"))
        try:
            parts = urlsplit(text)
            if (
                parts.scheme == "tcp"
                and parts.hostname
                and parts.port is not None
                and not parts.path.strip("/")
            ):
                return cls(host=parts.hostname, port=parts.port)
        except ValueError:  # urlsplit on a port that is no number: the same mistake
            pass
        raise InvalidSetting("model_url", f"unix:/path or tcp://host:port, not {text!r}")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"tcp://{host}:{self.port}"

    async def connect(self, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Raises OSError while nobody listens there."""
        loop = asyncio.get_running_loop()
        if self.path:
            return await loop.create_unix_connection(protocol, self.path)
        return await loop.create_connection(protocol, self.host, self.port)

    async def listen(self, protocol: Callable[[], P]) -> asyncio.Server:
        """Raises OSError where the address cannot be had. A dead server's socket file is replaced."""
        loop = asyncio.get_running_loop()
        if self.path:
            return await loop.create_unix_server(protocol, self.path)
        return await loop.create_server(protocol, self.host, self.port)
