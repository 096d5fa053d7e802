"""Record batches made here are the client's own, byte for byte, and whoever reads them finds every message once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams import record_batch
from pointsman.streams.output import Message
from pointsman.streams.record_batch import BATCH_BYTES, record_batches, varint
from tests.support.batches import read

NOW_MS = 1_790_000_000_123

sizes = st.integers(0, 200) | st.sampled_from([63, 64, 8191, 8192, 8193, 20_000])
contents = st.none() | sizes.map(bytes)
names = st.text(st.characters(codec="utf-8"), max_size=70)
headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=70)), max_size=3)
messages = st.lists(st.tuples(contents, contents, headers), min_size=1, max_size=20)


@pytest.fixture(autouse=True)
def a_clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batch.time, "time_ns", lambda: NOW_MS * 1_000_000 + 999_999)


def clients(some: Sequence[Any], *, transactional: bool, state: tuple[int, int, int]) -> bytes:
    built = BatchBuilder(2**30, 0, is_transactional=transactional)
    for key, value, given_ in some:
        built.append(timestamp=NOW_MS, key=key, value=value, headers=given_)
    built._set_producer_state(*state)
    return bytes(built._build())


@given(
    messages,
    st.booleans(),
    st.tuples(st.integers(-1, 2**62), st.integers(-1, 2**15 - 1), st.integers(0, 2**31 - 1)),
)
def test_a_batch_is_what_the_client_would_make_of_it(
    some: list[Any], transactional: bool, state: tuple[int, int, int]
) -> None:
    (batch,) = record_batches(some, transactional=transactional)
    batch._set_producer_state(*state)
    assert bytes(batch._build()) == clients(some, transactional=transactional, state=state)


def test_numbers_of_records_beyond_two_bytes_are_the_clients_too() -> None:
    some: list[Message] = [(b"k", b"", [])] * 9_000
    (batch,) = record_batches(some, transactional=False)
    assert bytes(batch._build()) == clients(some, transactional=False, state=(-1, -1, 0))


@pytest.mark.parametrize("size", [10, 900, 40_000, BATCH_BYTES - 100, BATCH_BYTES, 1_000_000])
def test_every_message_stands_once_in_order_in_batches_that_a_broker_takes(size: int) -> None:
    some: list[Message] = [(b"k%d" % n, b"%d" % n + bytes(size), [("h", b"x")]) for n in range(50)]
    found = list(record_batches(some, transactional=True))
    assert (len(found) > 1) is (size > 18_000)
    assert sum(batch.record_count() for batch in found) == 50
    for batch in found:
        assert len(batch._build()) <= BATCH_BYTES or batch.record_count() == 1
    pairs = [pair for batch in found for pair in read(bytes(batch._build()))]
    assert pairs == [(key, value) for key, value, _ in some]


def test_a_batch_that_is_sent_again_is_the_same() -> None:
    (batch,) = record_batches([(b"k", b"v", [])], transactional=True)
    batch._set_producer_state(7, 1, 5)
    first = bytes(batch._build())
    batch._set_producer_state(8, 2, 6)
    assert bytes(batch._build()) == first


def test_the_client_finds_a_batch_closed_and_knows_its_count() -> None:
    (batch,) = record_batches([(b"k", None, []), (None, b"v", [])], transactional=True)
    batch.close()
    assert (batch.closed(), batch.record_count()) == (True, 2)
    asked = {"record_count", "closed", "close", "_build", "_set_producer_state"}
    assert asked <= set(dir(BatchBuilder)), "the client's builder has lost what is asked of it"


@given(st.integers(-(2**62), 2**62))
def test_a_number_comes_back(number: int) -> None:
    found = at = 0
    for at, byte in enumerate(varint(number)):
        found |= (byte & 127) << 7 * at
    assert (found >> 1) ^ -(found & 1) == number
    assert (at + 1) * 7 - 7 <= (abs(number) * 2).bit_length() or at == 0, "as short as may be"
