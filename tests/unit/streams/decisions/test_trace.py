"""W3C trace context: carried on with a new span, dropped where it is invalid."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.decisions.trace import TRACESTATE_BYTES_MAX, carry, trace_id

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def headers(parent: str | bytes | None, state: bytes | None = None) -> list[tuple[str, bytes]]:
    raw = parent.encode() if isinstance(parent, str) else parent
    found = [("other", b"x"), ("traceparent", raw)]
    return found + ([("tracestate", state)] if state is not None else [])  # type: ignore[operator,return-value]


@pytest.mark.parametrize(
    "parent",
    [VALID, f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"],
)
def test_a_valid_context_goes_on_with_its_trace_and_a_new_span(parent: str) -> None:
    ((name, value),) = carry(headers(parent))
    assert name == "traceparent"
    match = re.fullmatch(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-0([01])", value)
    assert match
    assert match[1].decode() == TRACE == trace_id(headers(parent))
    assert match[2].decode() not in (SPAN, "0" * 16)
    assert match[3].decode() == parent.split("-")[3][1]


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        VALID + "-more",
        VALID + "-",
        VALID + ".",
        VALID + "\n",
        VALID.upper(),
        VALID.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what",
        b"\xff\xfe",
        None,
    ],
)
def test_an_invalid_context_is_dropped_with_its_state(parent: str | bytes | None) -> None:
    assert carry(headers(parent, b"k=v")) == []
    assert trace_id(headers(parent)) is None


def test_nothing_comes_of_nothing() -> None:
    assert carry([]) == []
    assert carry([("tracestate", b"k=v")]) == []
    assert trace_id([]) is None


def test_the_state_goes_on_as_it_is_unless_it_is_absurd() -> None:
    assert carry(headers(VALID, b"k=v"))[1] == ("tracestate", b"k=v")
    assert len(carry(headers(VALID, b"x" * (TRACESTATE_BYTES_MAX + 1)))) == 1
    assert len(carry(headers(VALID, b""))) == 1


@pytest.mark.parametrize(("flags", "sent"), [("ff", b"03"), ("02", b"02"), ("fe", b"02"), ("05", b"01")])
def test_flags_that_are_not_known_are_sent_as_zero(flags: str, sent: bytes) -> None:
    assert carry(headers(f"cc-{TRACE}-{SPAN}-{flags}"))[0][1][-2:] == sent


def test_of_several_contexts_the_last_counts_for_both() -> None:
    other = VALID.replace("0af7", "1111")
    both = [*headers(other), *headers(VALID)]
    assert carry(both)[0][1][3:35].decode() == TRACE == trace_id(both)
    broken_last = [*headers(VALID), *headers("nonsense")]
    assert carry(broken_last) == []
    assert trace_id(broken_last) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.none() | st.binary(max_size=80))
    )
)
def test_no_headers_raise(found: list[tuple[str, bytes]]) -> None:
    assert bool(carry(found)) is (trace_id(found) is not None)
