"""W3C trace context: carried on in headers, with a new span for the decision (www.w3.org/TR/trace-context)."""

from __future__ import annotations

import random
import re
from typing import Final

from pointsman.streams.output import Headers

TRACESTATE_BYTES_MAX: Final = 4_096
"""The standard asks for 512 at least; without a bound a sender's header could make an outcome too large to send."""
_KNOWN_FLAGS: Final = 0x03
"""Sampled and random. What we send is version 00, in which all other flags are zero."""
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def carry(headers: Headers) -> list[tuple[str, bytes]]:
    """The headers of what follows from a message: same trace, new span; nothing where none came or it is invalid."""
    if not headers:
        return []
    parent = state = None
    for name, value in headers:
        if name == "traceparent":
            parent = value
        elif name == "tracestate":
            state = value
    match = _TRACEPARENT.fullmatch(parent) if parent else None
    if match is None or not _valid(match):
        return []
    span = b"%016x" % (random.getrandbits(64) or 1)
    flags = b"%02x" % (int(match[4], 16) & _KNOWN_FLAGS)
    carried = [("traceparent", b"-".join((b"00", match[2], span, flags)))]
    if state and len(state) <= TRACESTATE_BYTES_MAX:
        carried.append(("tracestate", state))
    return carried


def trace_id(headers: Headers) -> str | None:
    """The trace's id, for logs and the audit row."""
    parent = None
    for name, value in headers:
        if name == "traceparent":
            parent = value  # the last one counts, as in `carry`
    match = _TRACEPARENT.fullmatch(parent) if parent else None
    return match[2].decode() if match and _valid(match) else None


def _valid(match: re.Match[bytes]) -> bool:
    version, rest = match[1], match[5]
    if version == b"ff" or (version == b"00" and rest):
        return False
    return match[2] != b"0" * 32 and match[3] != b"0" * 16
