"""W3C trace context: carried on in headers, with a new span for the decision (www.w3.org/TR/trace-context)."""

from __future__ import annotations

import random
import re

from pointsman.streams.output import Headers

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
    carried = [("traceparent", b"-".join((b"00", match[2], span, match[4])))]
    if state:
        carried.append(("tracestate", state))
    return carried


def trace_id(headers: Headers) -> str | None:
    """The trace's id, for logs and the audit row."""
    for name, value in headers:
        if name == "traceparent":
            match = _TRACEPARENT.fullmatch(value)
            return match[2].decode() if match and _valid(match) else None
    return None


def _valid(match: re.Match[bytes]) -> bool:
    version, rest = match[1], match[5]
    if version == b"ff" or (version == b"00" and rest):
        return False
    return match[2] != b"0" * 32 and match[3] != b"0" * 16
