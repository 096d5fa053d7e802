"""Which guarantee a worker gives."""

from __future__ import annotations

import pytest

from pointsman.schemas.errors import InvalidSetting
from pointsman.streams.settings import load
from pointsman.streams.topology import exactly_once


@pytest.mark.parametrize(
    ("delivery", "embedded", "once"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("exactly_once", False, True),
        ("at_least_once", False, False),
    ],
)
def test_auto_is_exactly_once_wherever_the_broker_can(delivery: str, embedded: bool, once: bool) -> None:
    assert exactly_once(load({"delivery": delivery}, {}).settings, embedded) is once


def test_exactly_once_is_refused_where_it_would_not_be_true() -> None:
    with pytest.raises(InvalidSetting, match="delivery"):
        exactly_once(load({"delivery": "exactly_once"}, {}).settings, embedded=True)
