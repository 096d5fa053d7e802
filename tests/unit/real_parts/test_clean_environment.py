"""Settings of the person who runs the tests do not reach them."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module", autouse=True)
def setting_of_the_person() -> Iterator[None]:
    """Set before the function-scoped fixtures of conftest run."""
    os.environ["POINTSMAN_GROUP"] = "production"
    yield
    del os.environ["POINTSMAN_GROUP"]


def test_a_setting_is_not_seen() -> None:
    assert "POINTSMAN_GROUP" not in os.environ


@given(st.integers())
def test_nor_is_it_in_a_property_test(number: int) -> None:
    assert isinstance(number, int)
    assert "POINTSMAN_GROUP" not in os.environ
