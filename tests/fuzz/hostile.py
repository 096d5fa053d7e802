"""Large inputs made to cost time or memory: each is a quarter of a megabyte of what parsers pay dearly for."""

from __future__ import annotations

from typing import Final

SIZE: Final = 262_144
_HEAD, _TAIL = b'{"id":"r1","agent":"small","input":{"zz":', b"}}"


def _fill(unit: bytes, size: int = SIZE) -> bytes:
    return unit * (size // len(unit))


HOSTILE: Final[dict[str, bytes]] = {
    "open arrays": _fill(b"["),
    "open objects": _fill(b'{"a":'),
    "arrays behind objects": _fill(b'[{"a":'),
    "flat brackets": _HEAD + b"[" + _fill(b"{},")[:-1] + b"]" + _TAIL,
    "brackets in strings": _HEAD + b'"' + _fill(b"[{") + b'"' + _TAIL,
    "digits": _HEAD + _fill(b"9") + _TAIL,
    "digits behind a point": _HEAD + b"0." + _fill(b"9") + _TAIL,
    "an exponent of digits": _HEAD + b"1e" + _fill(b"9") + _TAIL,
    "one string": _HEAD + b'"' + _fill(b"x") + b'"' + _TAIL,
    "a string without an end": b'{"a":"' + _fill(b"x"),
    "quotes": _fill(b'"'),
    "escaped quotes": b"[" + b"[]," * 40 + b'"' + _fill(b'\\"'),
    "backslashes": b"[" + b"[]," * 40 + b'"' + _fill(b"\\"),
    "escapes": _HEAD + b'"' + _fill(b"\\u0041") + b'"' + _TAIL,
    "surrogates": _HEAD + b'"' + _fill(b"\\ud800") + b'"' + _TAIL,
    "spaces": _fill(b" "),
    "line ends": _fill(b"\n"),
    "zeros": _fill(b"\0"),
    "one key again and again": b"{" + _fill(b'"id":"r1",')[:-1] + b"}",
    "many keys": b"{" + b",".join(b'"k%d":0' % i for i in range(20_000)) + b"}",
    "half letters": _fill(b"\xc3"),
    "backticks": b'{"status":"' + _fill(b" - at `$.") + b'"}',
    "short lines": _fill(b"a: b\n"),
    "assignments": _fill(b"a=1\n"),
    "marks": _fill(b"\0\x1e\x1d\x1e\0"),
    "tabs": _fill(b"0\t0\t\0"),
    "tiny frames": _fill(b"\x01\x00\x00\x00\x02"),
    "dots": b"a" + _fill(b".a") + b" = 1",
    "tables": _fill(b"[[a]]\n"),
    "trace": b"traceparent: " + _fill(b"00-"),
    "versions": b"traceparent: 01-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01-" + _fill(b"-"),
}
