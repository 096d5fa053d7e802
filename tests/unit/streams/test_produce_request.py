"""Produce requests that are joined once are the client's own."""

from __future__ import annotations

import pytest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import Schema
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams import produce_request
from pointsman.streams.produce_request import VERSIONS, JoinedOnce

texts = st.text(st.characters(codec="utf-8"), max_size=20)
topics = st.lists(
    st.tuples(
        texts, st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary() | st.binary().map(bytearray)))
    ),
    max_size=4,
)


@pytest.fixture(autouse=True)
def installed() -> None:
    produce_request.install()
    produce_request.install()  # twice does no harm


@pytest.mark.parametrize("version", VERSIONS)
@given(st.none() | texts, st.integers(-1, 1), st.integers(0, 2**31 - 1), topics)
def test_a_request_is_what_the_client_would_send(version, id_, acks, timeout_ms, some) -> None:  # type: ignore[no-untyped-def]
    request = ProduceRequest(id_, acks, timeout_ms, some).build(version)
    assert type(request.SCHEMA) is JoinedOnce
    fields = zip(request.SCHEMA.names, request.SCHEMA.fields, strict=True)
    assert request.encode() == Schema(*fields).encode((id_, acks, timeout_ms, some))


def test_every_version_that_the_client_may_choose_is_covered() -> None:
    """One that it learns of later would be sent as it is, which is right and slow."""
    assert {each for each in ProduceRequest._CLASSES if each.API_VERSION >= 3} == set(VERSIONS)
