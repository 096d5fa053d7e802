"""What holds of every decoder, whatever bytes it gets; a `Target` is one decoder with what it may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pointsman.schemas import dead_letter
from pointsman.schemas.errors import InvalidMessage, InvalidSetting


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder.

    ``decode`` takes bytes and returns a value that can be compared, or raises one of ``refuses``. ``encode``
    gives bytes that decode to the same value; None where nothing is ever written in that form.
    """

    name: str
    decode: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...] = (InvalidMessage,)
    encode: Callable[[Any], bytes] | None = None


def check(target: Target, value: bytes) -> bool:
    """Whether the value is accepted. Fails where a property does not hold; foreign exceptions pass through."""
    accepted, found = verdict(target, value)
    again = verdict(target, value)
    assert again == (accepted, found), f"decided {(accepted, found)!r:.300}, then {again!r:.300}"
    if accepted and target.encode is not None:
        written = target.encode(found)
        assert verdict(target, written) == (True, found), f"written as {written!r:.300} it is another"
    return accepted


def verdict(target: Target, value: bytes) -> tuple[bool, Any]:
    """The value, or the text of the refusal; each kind of refusal says what it must."""
    try:
        return True, target.decode(value)
    except target.refuses as refusal:
        _says_enough(refusal)
        return False, f"{type(refusal).__name__}: {refusal}"


def _says_enough(refusal: Exception) -> None:
    assert str(refusal), f"{type(refusal).__name__} without a word"
    if isinstance(refusal, InvalidMessage):
        assert refusal.reason in dead_letter.REASONS
        assert refusal.field and refusal.expected
    if isinstance(refusal, InvalidSetting):
        assert refusal.name and refusal.expected
