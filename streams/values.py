"""What a setting's value must be beyond its type: texts that can be handed on, addresses, bands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from ipaddress import IPv6Address
from typing import Any, Final, get_args

from pointsman.models.agent import Bands
from pointsman.models.satisfaction import Signal
from pointsman.schemas.errors import InvalidSetting

SHOWN_MAX: Final = 200
"""Characters of a wrong value in its error."""
_SERVER: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]/,]+))(?::(?P<port>[0-9]{1,5}))?"
)
_EDGES: Final = tuple(each.name for each in fields(Bands))
_SIGNALS: Final = get_args(Signal)


def check_address(name: str, value: Any) -> None:
    """Addresses that the clients would raise about, in words of their own. Raises ValueError."""
    if name == "kafka" and value and not all(map(_is_server, value.split(","))):
        msg = "Expected host:port, or several separated by commas"
        raise ValueError(msg)
    if name == "dsn" and value:
        from psycopg import ProgrammingError  # noqa: PLC0415 - the driver is slow to import
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

        try:
            conninfo_to_dict(value)
        except ProgrammingError:  # whose text may hold a part of the password
            msg = "Expected postgresql://user@host/database, or words like host=… dbname=…"
            raise ValueError(msg) from None


def _is_server(text: str) -> bool:
    found = _SERVER.fullmatch(text.strip())
    if found is None or int(found["port"] or 1) not in range(1, 65_536):
        return False
    if found["v6"] is None:
        return True
    try:
        IPv6Address(found["v6"])
    except ValueError:
        return False
    return True


def beginning(value: Any) -> str:
    """A wrong value for people; of a long one the beginning says enough."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits has no text
        return "so long a number"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def check_texts(value: Any) -> None:
    """Settings go to other processes as JSON, and to the system as paths and addresses. Raises ValueError."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        for each in value:
            check_texts(each)
    elif isinstance(value, str) and ("\0" in value or _lone_surrogate(value)):
        msg = "Expected text in UTF-8 without zero characters"
        raise ValueError(msg)


def _lone_surrogate(value: str) -> bool:
    """As the system hands over bytes that are no text."""
    return any("\ud800" <= letter <= "\udfff" for letter in value)


def check_bands(value: Any) -> None:
    """A misspelt edge would be passed over in silence, and the default stand in its place."""
    for agent, bands in value.items() if isinstance(value, Mapping) else ():
        for edge in bands if isinstance(bands, Mapping) else ():
            if edge not in _EDGES:
                raise InvalidSetting(f"bands.{agent}.{edge}", f"no such edge; one of {', '.join(_EDGES)}")


def check_satisfaction(value: Any) -> None:
    """The same of signals; and every signal but a rating needs points."""
    for signal, weight in value.items() if isinstance(value, Mapping) else ():
        if signal not in _SIGNALS:
            raise InvalidSetting(f"satisfaction.{signal}", f"no such signal; one of {', '.join(_SIGNALS)}")
        words = set(weight) if isinstance(weight, Mapping) else set()
        for word in words - {"points", "weight"}:
            raise InvalidSetting(f"satisfaction.{signal}.{word}", "no such word; points and weight")
        if (signal == "rating") == ("points" in words):
            what = "no points: a rating has its own" if signal == "rating" else "points, from 1 to 5"
            raise InvalidSetting(f"satisfaction.{signal}.points", what)
