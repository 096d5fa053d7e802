"""Bytes to typed messages and back. Every message goes through here, and an error names its field."""

from __future__ import annotations

import re
from typing import Any, Final, Generic, TypeVar

import msgspec

from pointsman.schemas.errors import InvalidMessage

T = TypeVar("T")

DEPTH_MAX: Final = 32
"""No contract nests deeper than 6; 32 leaves room, and is far from the interpreter's stack."""

_AT = re.compile(r" - at (?:`key` in )?`(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>[^`]+)`")
_STRINGS_OR_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string without an end runs to the end: else each of its quotes would be tried again, in quadratic time."""

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """JSON of a message."""
    return _encoder.encode(message)


def too_deep(value: bytes, limit: int = DEPTH_MAX) -> bool:
    """Whether arrays and objects nest deeper than ``limit``. Small messages cost two looks for brackets.

    In a long list of objects each one opens where the last has just closed, so it opens no level of its own.
    (Such a place within a string adds to both counts.)

    What has many brackets all the same is peeled: each pass takes the innermost pairs away, and a flat one is gone
    after three. Strings are left out first, since brackets in them say nothing.
    """
    # Counted by leaving them out, which leaps from one to the next; `count` goes byte by byte, a microsecond a request.
    opened = 2 * len(value) - len(value.replace(b"[", b"")) - len(value.replace(b"{", b""))
    if opened <= limit:
        return False
    opened -= value.count(b"},{")
    if opened <= limit or opened - value.count(b"}, {") <= limit:
        return False
    if b"\\" not in value:  # no quote is escaped, so every second part lies outside of strings
        brackets = b"".join(value.split(b'"')[::2]).translate(None, _NO_BRACKETS)
        for _ in range(limit // 2):  # a pass may take two levels: ``[`` around ``{``
            brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
            if not brackets:
                return False
    return _depth_exceeds(value, limit)


def _depth_exceeds(value: bytes, limit: int) -> bool:
    depth = 0
    for match in _STRINGS_OR_BRACKETS.finditer(value):
        first = value[match.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif first in b"]}":
            depth -= 1
    return False


class Decoder(Generic[T]):
    """Decodes one contract. ``path`` is where the value lies in its message, for error texts."""

    def __init__(self, type_: type[T], path: str = "") -> None:
        self._decode = msgspec.json.Decoder(type_).decode
        self._path = path

    def decode(self, value: bytes | msgspec.Raw) -> T:
        """The typed message. Raises `InvalidMessage` that names the field and what was expected."""
        try:
            return self._decode(value)
        except msgspec.ValidationError as error:
            raise invalid(error, self._path) from error
        except msgspec.DecodeError as error:
            raise InvalidMessage("not_json", self._path or "value", f"JSON ({error})") from error
        except UnicodeDecodeError as error:
            raise InvalidMessage("not_json", self._path or "value", f"UTF-8 ({error.reason})") from error
        except RecursionError as error:
            raise InvalidMessage("too_deep", self._path or "value", f"at most {DEPTH_MAX} levels") from error


def invalid(error: msgspec.ValidationError, path: str = "") -> InvalidMessage:
    """Our error for msgspec's, with the field's whole path."""
    text = str(error)
    at = _AT.search(text)
    inner = at["path"].removeprefix("$").removeprefix(".") if at else ""
    text = _AT.sub("", text)
    missing = _MISSING.match(text)
    names = [path, inner, missing["name"] if missing else ""]
    field = ".".join(name for name in names if name).replace(".[", "[") or "value"
    if missing:
        return InvalidMessage("missing_field", field, "required")
    return InvalidMessage("wrong_type", field, text[:1].lower() + text[1:])


def to_builtins(message: Any) -> Any:
    """A message as plain dicts and lists, for printing."""
    return msgspec.to_builtins(message)
