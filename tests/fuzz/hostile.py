"""Large inputs made to cost time or memory: each is a quarter of a megabyte of what parsers pay dearly for."""

from __future__ import annotations

from typing import Final

SIZE: Final = 262_144
_HEAD, _TAIL = b'{"id":"r1","agent":"small","input":{"zz":', b"}}"
_AROUND: Final = 200
"""What stands around the expensive part at most: a request may have `SIZE` bytes, and a larger one is not looked at."""


def hostile(size: int) -> dict[str, bytes]:
    """Inputs of nearly ``size`` bytes each, by what they are."""

    def fill(unit: bytes) -> bytes:
        return unit * ((size - _AROUND) // len(unit))

    return {
        "open arrays": fill(b"["),
        "open objects": fill(b'{"a":'),
        "arrays behind objects": fill(b'[{"a":'),
        "flat brackets": _HEAD + b"[" + fill(b"{},")[:-1] + b"]" + _TAIL,
        "brackets in strings": _HEAD + b'"' + fill(b"[{") + b'"' + _TAIL,
        "digits": _HEAD + fill(b"9") + _TAIL,
        "digits behind a point": _HEAD + b"0." + fill(b"9") + _TAIL,
        "an exponent of digits": _HEAD + b"1e" + fill(b"9") + _TAIL,
        "one string": _HEAD + b'"' + fill(b"x") + b'"' + _TAIL,
        "a string without an end": b'{"a":"' + fill(b"x"),
        "quotes": fill(b'"'),
        "escaped quotes": b"[" + b"[]," * 40 + b'"' + fill(b'\\"'),
        "backslashes": b"[" + b"[]," * 40 + b'"' + fill(b"\\"),
        "escapes": _HEAD + b'"' + fill(b"\\u0041") + b'"' + _TAIL,
        "surrogates": _HEAD + b'"' + fill(b"\\ud800") + b'"' + _TAIL,
        "spaces": fill(b" "),
        "line ends": fill(b"\n"),
        "zeros": fill(b"\0"),
        "one key again and again": b"{" + fill(b'"id":"r1",')[:-1] + b"}",
        "many keys": b"{" + b",".join(b'"k%d":0' % i for i in range(size // 13)) + b"}",
        "half letters": fill(b"\xc3"),
        "backticks": b'{"status":"' + fill(b" - at `$.") + b'"}',
        "short lines": fill(b"a: b\n"),
        "assignments": fill(b"a=1\n"),
        "marks": fill(b"\0\x1e\x1d\x1e\0"),
        "tabs": fill(b"0\t0\t\0"),
        "tiny frames": fill(b"\x01\x00\x00\x00\x02"),
        "dots": b"a" + fill(b".a") + b" = 1",
        "tables": fill(b"[[a]]\n"),
        "trace": b"traceparent: " + fill(b"00-"),
        "versions": b"traceparent: 01-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01-" + fill(b"-"),
    }


HOSTILE: Final = hostile(SIZE)
