"""Questions of several agents that are sent together: each has its own answer or failure, all have one deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pointsman.streams.model.breaker import State
from pointsman.streams.model.client import ModelFailure, Scores
from pointsman.streams.model.connection import Connection, _Call
from pointsman.streams.model.protocol import (
    VERSION,
    Hello,
    Lane,
    ModelInfo,
    Response,
    Status,
    encode_failure,
    encode_hello,
    encode_request,
    encode_scores,
)
from tests.unit.streams.model.model_servers import HANG_S, Peer, first_column
from tests.unit.streams.model.test_model_client import connected

NAMES = ("first", "second", "third")
HELLO = encode_hello(
    Hello(
        protocol=VERSION,
        models=[ModelInfo(agent=name, version=name, sha256="0" * 64, features=2) for name in NAMES],
    )
)


def asked(*names: str) -> list[tuple[str, list[tuple[float, ...]]]]:
    """A question of each, with a first column that tells them apart."""
    return [(name, [(n / 8, 0.0), (n / 8 + 1 / 16, 0.0)]) for n, name in enumerate(names)]


def told(found: list[Scores | ModelFailure]) -> list[Any]:
    return [each.reason if isinstance(each, ModelFailure) else (each.version, each.values) for each in found]


async def test_each_question_has_its_own_answer_whatever_the_order_they_come_in() -> None:
    async def backwards(peer: Peer) -> None:
        peer.send(HELLO)
        for request in reversed([await peer.request() for _ in NAMES]):
            peer.answer(request)
        await peer.silence()

    async with connected(backwards, deadline_ms=HANG_S * 1000) as client:
        found = told(await client.score_all(asked(*NAMES)))
    assert found == [("first", [0.0, 0.0625]), ("second", [0.125, 0.1875]), ("third", [0.25, 0.3125])]


async def test_nobody_is_asked_where_there_is_no_question() -> None:
    async def mute(peer: Peer) -> None:
        peer.send(HELLO)
        await peer.silence()

    async with connected(mute) as client:
        assert await client.score_all([]) == []
        with pytest.raises(ModelFailure):
            await client.score("unknown", [(0.0, 0.0)])
        assert told(await client.score_all([("unknown", [(0.0, 0.0)])])) == ["model_unavailable"]


async def test_questions_that_are_sent_together_take_one_write_and_two_timers() -> None:
    seen: list[str] = []

    async def good(peer: Peer) -> None:
        peer.send(HELLO)
        while True:
            peer.answer(await peer.request())

    class Noted:
        def __init__(self, of: Any) -> None:
            self._of = of

        def __getattr__(self, name: str) -> Any:
            if name in ("write", "call_later"):
                seen.append(name)
            return getattr(self._of, name)

    async with connected(good, deadline_ms=HANG_S * 1000) as client:
        connection: Any = client._connection
        connection._transport, connection._loop = Noted(connection._transport), Noted(connection._loop)
        assert len(await client.score_all(asked(*NAMES))) == len(NAMES)
        connection._loop = connection._loop._of
    assert sorted(seen) == ["call_later", "write"]


async def test_what_fails_fails_alone_and_counts_for_its_own_agent() -> None:
    async def picky(peer: Peer) -> None:
        peer.send(HELLO)
        while True:
            request = await peer.request()
            if request.agent == "second":
                peer.send(encode_failure(request.id, Status.ERROR, "no"))
            elif request.agent == "third":
                peer.send(encode_scores(request.id, first_column(request)[:8]))
            else:
                peer.answer(request)

    async with connected(picky, deadline_ms=HANG_S * 1000) as client:
        questions = [
            *asked("first", "second", "unknown", "third"),
            ("first", [(0.5,)]),
            ("first", [(0.75, 0.0)]),
        ]
        for _ in range(3):  # so many failures open a breaker
            found = told(await client.score_all(questions))
            assert found == [
                ("first", [0.0, 0.0625]),
                "model_error",
                "model_unavailable",
                "model_bad_output",
                "model_error",
                ("first", [0.75]),
            ]
        states = [client.breaker(name) for name in ("first", "second", "third", "unknown")]
        assert states == [State.CLOSED, State.OPEN, State.OPEN, State.CLOSED]
        assert told(await client.score_all(questions))[1] == "breaker_open"


async def test_at_the_deadline_what_was_answered_counts_and_what_comes_later_counts_nowhere() -> None:
    async def late(peer: Peer) -> None:
        peer.send(HELLO)
        first, second, third = [await peer.request() for _ in NAMES]
        peer.answer(first)
        peer.answer(third)
        after = await peer.request()
        peer.answer(second)
        peer.answer(after)
        await peer.silence()

    async with connected(late, silences_max=2) as client:
        found = told(await client.score_all(asked(*NAMES), 300))
        assert found == [("first", [0.0, 0.0625]), "model_timeout", ("third", [0.25, 0.3125])]
        assert [client.breaker(name) for name in NAMES] == [State.CLOSED, State.OPEN, State.CLOSED]
        assert told(await client.score_all(asked("first"), HANG_S * 1000)) == [("first", [0.0, 0.0625])]


async def test_a_lost_connection_leaves_what_was_answered_and_opens_no_breaker() -> None:
    async def hangs_up(peer: Peer) -> None:
        peer.send(HELLO)
        requests = [await peer.request() for _ in NAMES]
        peer.answer(requests[1])

    async with connected(hangs_up, deadline_ms=HANG_S * 1000) as client:
        found = told(await client.score_all(asked(*NAMES)))
        assert found == ["model_unavailable", ("second", [0.125, 0.1875]), "model_unavailable"]
        assert {client.breaker(name) for name in NAMES} == {State.CLOSED}


async def test_a_mute_server_is_hung_up_on_after_so_many_silences_however_many_questions_each_has() -> None:
    async def mute(peer: Peer) -> None:
        peer.send(HELLO)
        await peer.silence()

    async with connected(mute, silences_max=2) as client:
        connection = client._connection
        assert connection is not None
        for silences in range(2):
            assert connection.closed.done() is False, f"after {silences} of 2"
            ids = [connection.next_id() for _ in NAMES]
            frames = {id_: encode_request(id_, Lane.SERVED, "first", 2, [(0.0, 0.0)]) for id_ in ids}
            found = await connection.ask(frames, within_s=0.05)
            assert [getattr(found[id_], "reason", "") for id_ in ids] == ["model_timeout"] * len(ids)
        async with asyncio.timeout(HANG_S):
            await connection.closed


async def test_an_answer_and_the_deadline_in_the_same_turn_of_the_loop_do_not_undo_each_other() -> None:
    """Whoever asked has not run yet and would see both."""
    connection = Connection(silences_max=1)
    failure, first, second = (
        ModelFailure("model_timeout"),
        Response(1, Status.OK, []),
        Response(2, Status.OK, []),
    )
    given_up, over = (_Call({1: b"", 2: b""}, asyncio.get_running_loop().create_future()) for _ in range(2))
    given_up.take(first)
    given_up.give_up(failure)
    given_up.take(second)
    assert given_up.found == {1: first, 2: failure}
    over.take(first)
    over.take(second)
    connection._give_up(over)
    assert over.found == {1: first, 2: second}
    assert connection._silences == 0, "the model was not silent"
