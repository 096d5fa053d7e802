"""The model protocol's two sides as decoders: what a server makes of a client's bytes, and the other way round."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from pointsman.streams.model.loading import Loaded, Model
from pointsman.streams.model.observe import ServerMetrics
from pointsman.streams.model.protocol import (
    FrameReader,
    Kind,
    ModelInfo,
    ProtocolError,
    decode_hello,
    decode_request,
    decode_response,
    encode_failure,
    encode_hello,
    encode_scores,
    frame,
    kind_of,
    pack_rows,
)
from pointsman.streams.model.serving import ModelServer
from tests.fuzz.check import Target

COLUMNS: Final = 2
SERVER: Final = ModelServer(
    Loaded(
        {
            "small": Model(
                ModelInfo(agent="small", version="7", sha256="", features=COLUMNS),
                lambda matrix: np.clip(matrix.sum(axis=1), 0, 1),
            )
        }
    ),
    ServerMetrics(),
)


def _bodies(value: bytes) -> list[bytes]:
    """The bodies of the frames; cut into single bytes they must be the same."""
    whole = list(FrameReader().feed(value))
    reader = FrameReader()
    assert [body for i in range(len(value)) for body in reader.feed(value[i : i + 1])] == whole
    return whole


def _to_server(value: bytes) -> Any:
    """Every request is answered with a frame that the client's side can read."""
    found = []
    for body in _bodies(value):
        if kind_of(body) is not Kind.REQUEST:
            raise ProtocolError("a client sends requests")
        request = decode_request(body)
        (answer,) = FrameReader().feed(SERVER._answer(request))
        response = decode_response(answer)
        assert response.id == request.id
        found.append(
            (request.id, request.lane, request.agent, request.rows, bytes(request.data), response.status)
        )
    return found


def _to_client(value: bytes) -> Any:
    """A hello names models whose rows can be packed; a response is what the server's side would have written."""
    found: list[Any] = []
    for body in _bodies(value):
        kind = kind_of(body)
        if kind is Kind.HELLO:
            hello = decode_hello(body)
            for model in hello.models:
                pack_rows([(0.0,) * model.features], model.features)
            assert decode_hello(encode_hello(hello)[4:]) == hello
            found.append(hello)
        elif kind is Kind.RESPONSE:
            response = decode_response(body)
            packed = pack_rows([tuple(response.scores)], len(response.scores))
            again = encode_failure(response.id, response.status, response.text)
            written = again if response.status else encode_scores(response.id, packed)
            assert decode_response(written[4:]).status == response.status
            found.append((response.id, response.status, packed, response.text))
        else:
            raise ProtocolError("a server sends no requests")
    return found


def hello(**changes: Any) -> bytes:
    """A server's first frame, with other words in it than it has."""
    return frame(
        bytes([Kind.HELLO]), msgspec.json.encode({"protocol": 1, "models": [], "broken": {}, **changes})
    )


MODEL_TARGETS: Final = (
    Target("model-requests", _to_server, (ProtocolError,)),
    Target("model-responses", _to_client, (ProtocolError,)),
)
