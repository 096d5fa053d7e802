"""Inputs: any bytes, kept ones that were changed here and there, and JSON with a value that has no place there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

TOKENS: Sequence[bytes] = (
    b"\0", b"\n", b"\r", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x1e\x1d\x1e", b"\t",
    b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"[", b"]", b"{", b"}", b",", b":", b" ", b"=",
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"1.5", b"9" * 25, b"9" * 320, b"9" * 5_000, b"1e-400",
    b"[" * 40, b"[" * 1_500, b'{"a":' * 1_500, b"{a=" * 1_500, b"0x" + b"f" * 5_000, b"x" * 300, b"nan", b"inf",
    b"2026-11-01", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"..", b"/", b"%",
)  # fmt: skip
"""What parsers have stumbled over: by itself, or in the place of something."""

numbers = st.sampled_from(
    [
        0,
        -1,
        1,
        0.5,
        -0.0,
        1e308,
        -1e308,
        5e-324,
        2**15,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63) - 1,
    ]
    + [10**30, 10**400]
)
words = st.sampled_from(
    [
        "",
        "\0",
        "a\0b",
        "\n",
        "a\n",
        " ",
        "é",
        "\U0001f600",
        "\u2028",
        "..",
        "x" * 300,
        "x" * 11_000,
        "null",
        "1",
        "-1",
    ]
    + [
        "nan",
        "2026-11-01T00:00:00",
        "2026-11-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
    ]
    + ["9999-12-31T23:59:59-23:59", "documentation-keeper", "small", "ml", "final", "control", "R"]
)
leaves = st.none() | st.booleans() | numbers | words | st.text(max_size=5) | st.integers() | st.floats()
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes for a decoder whose kept inputs are ``seeds``."""
    objects = [found for seed in seeds if (found := _object(seed)) is not None]
    ways = [st.binary(max_size=200), st.sampled_from(seeds), changed_bytes(seeds)]
    if objects:
        ways += [changed_json(objects), changed_json(objects)]
    return st.one_of(ways)


def _object(seed: bytes) -> Any:
    try:
        found = json.loads(seed)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) and found else None


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed with up to five places changed: cut, doubled, overwritten, or taken from another seed."""
    value = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(value)))
        end = min(len(value), start + draw(st.integers(0, 12)))
        how = draw(st.integers(0, 4))
        if how == 0:
            value[start:end] = draw(st.sampled_from(TOKENS))
        elif how == 1:
            value[start:end] = draw(st.binary(max_size=8))
        elif how == 2:
            value[start:start] = value[start:end] * draw(st.integers(1, 40))
        elif how == 3:
            del value[start:]
        else:
            other = draw(st.sampled_from(seeds))
            value[start:end] = other[draw(st.integers(0, len(other))) :][:50]
    return bytes(value)


@st.composite
def changed_json(draw: st.DrawFn, objects: Sequence[Any]) -> bytes:
    """A seed's JSON with up to three values exchanged, left out, or added."""
    value = json.loads(json.dumps(draw(st.sampled_from(objects))))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(value)
        holder, at = draw(st.sampled_from(places)) if places else (None, None)
        if holder is None:
            break
        if draw(st.integers(0, 9)) == 0:
            del holder[at]
        else:
            holder[at] = draw(trees)
        if isinstance(holder, dict) and draw(st.integers(0, 9)) == 0:
            holder[draw(words)] = draw(leaves)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every value but the outermost: what holds it, and where."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])
    return found
