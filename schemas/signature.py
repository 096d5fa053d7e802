"""Signatures of feedback: who may report what rolls back without any minimum sample must prove who they are."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Final

HEADER: Final = "pointsman-signature"
"""Header of a signed event: ``sha256=`` and the signature in hexadecimal."""
_SCHEME: Final = b"sha256="


def sign(key: str, value: bytes) -> bytes:
    """The header's value for an event's bytes: HMAC-SHA256 (RFC 2104) under the sender's key."""
    return _SCHEME + hmac.new(key.encode(), value, "sha256").hexdigest().encode()


def signed(key: str, value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether a header says that whoever has the key made these bytes."""
    wanted = sign(key, value)
    return any(name == HEADER and hmac.compare_digest(found or b"", wanted) for name, found in headers)
