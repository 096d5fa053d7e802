"""Frames: what is encoded is decoded, however the bytes are cut; what is damaged is named."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas.errors import InvalidSetting
from pointsman.streams.model.address import Address
from pointsman.streams.model.protocol import (
    FrameReader,
    Hello,
    Kind,
    Lane,
    ModelInfo,
    ProtocolError,
    Status,
    decode_hello,
    decode_request,
    decode_response,
    encode_failure,
    encode_hello,
    encode_request,
    encode_scores,
    frame,
    kind_of,
)

FLOATS = st.floats(allow_nan=False)
IDS = st.integers(0, 2**64 - 1)


def body_of(data: bytes) -> bytes:
    (body,) = FrameReader().feed(data)
    return body


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(frame(body) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += list(reader.feed(stream[start:end]))
    assert found == bodies


@pytest.mark.parametrize("length", [0, 101, 2**32 - 1])
def test_a_frame_of_an_impossible_length_is_refused_by_its_head_alone(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"a frame of {length} bytes"):
        list(FrameReader(limit=100).feed(struct.pack("<I", length)))


@given(IDS, st.sampled_from(Lane), st.text(max_size=20), st.integers(0, 5), st.data())
def test_requests_round_trip(id_: int, lane: Lane, agent: str, columns: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(*[FLOATS] * columns), max_size=5))
    agent = agent.encode(errors="replace").decode()
    request = decode_request(body_of(encode_request(id_, lane, agent, columns, rows)))
    assert (request.id, request.lane, request.agent) == (id_, lane, agent)
    assert (request.rows, request.columns) == (len(rows), columns)
    flat = [value for row in rows for value in row]
    assert list(struct.unpack(f"<{len(flat)}d", request.data)) == flat


@given(IDS, st.lists(st.floats(), max_size=50))
def test_scores_round_trip_bit_by_bit(id_: int, scores: list[float]) -> None:
    packed = struct.pack(f"<{len(scores)}d", *scores)
    response = decode_response(body_of(encode_scores(id_, packed)))
    assert (response.id, response.status) == (id_, Status.OK)
    assert [struct.pack("<d", s) for s in response.scores] == [struct.pack("<d", s) for s in scores]


def test_failures_round_trip() -> None:
    response = decode_response(body_of(encode_failure(7, Status.ERROR, "ValueError: größer")))
    assert (response.id, response.status, response.text) == (7, Status.ERROR, "ValueError: größer")


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([(1.0, 2.0), (1.0,)], "columns"),
        ([(1.0, 2.0, 3.0)], "columns"),
        ([(1.0, None)], "no float"),
        ([(1.0, "2")], "no float"),
        ([(1.0, 10**400)], "no float"),
    ],
)
def test_rows_that_are_no_matrix_are_refused_with_the_reason(
    rows: list[tuple[float, ...]], names: str
) -> None:
    with pytest.raises(ValueError, match=names):
        encode_request(1, Lane.SERVED, "a", 2, rows)


def test_hellos_round_trip() -> None:
    hello = Hello(
        protocol=1,
        models=[ModelInfo(agent="a", version="1", sha256="f", features=3)],
        broken={"b": "checksum"},
    )
    assert decode_hello(body_of(encode_hello(hello))) == hello


def test_a_hello_of_another_version_says_which() -> None:
    with pytest.raises(ProtocolError, match="protocol 99"):
        decode_hello(body_of(encode_hello(Hello(protocol=99, models=[]))))


@given(st.binary(min_size=1, max_size=100))
def test_any_bytes_decode_or_are_a_protocol_error(body: bytes) -> None:
    for decode in (kind_of, decode_hello, decode_request, decode_response):
        try:
            decode(body)
        except ProtocolError:
            continue


def test_a_response_with_a_wrong_count_is_damaged() -> None:
    body = struct.pack("<BBIQ", Kind.RESPONSE, Status.OK, 3, 1) + struct.pack("<2d", math.pi, math.e)
    with pytest.raises(ProtocolError, match="3 scores"):
        decode_response(body)


@pytest.mark.parametrize(
    "text", ["unix:/run/m.sock", "tcp://127.0.0.1:9000", "tcp://[::1]:9000", "tcp://models:1"]
)
def test_addresses_are_read_and_shown_alike(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "unix:", "tcp://host", "tcp://:1", "http://a:1", "tcp://a:x", "tcp://a:99999"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(InvalidSetting, match="model_url"):
        Address.parse(text)
