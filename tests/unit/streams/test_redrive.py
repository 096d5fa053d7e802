"""Letters that are sent again: messages and the notes of them are one transaction, and become visible together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from pointsman.schemas.codec import Decoder
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.retry import Redrive
from pointsman.streams import redrive
from pointsman.streams.decisions.validate import Rejected, letter
from pointsman.streams.letters import Letter, Wanted, read
from pointsman.streams.output import Record
from pointsman.streams.redrive import Redriver
from pointsman.streams.topics import Names
from tests.builders import record, valid

NAMES = Names()
COUNT, CHUNK = 5, 2
LIMITS: dict[str, Any] = {"most": 100, "times_max": 3}


class Broker:
    """Letters, what was committed, and of how many sends to a topic the next one fails."""

    def __init__(self) -> None:
        self.letters = [self._letter(number) for number in range(COUNT)]
        self.transactions: list[list[tuple[str, Any]]] = []
        """Of each committed transaction the topic and the value of its messages."""
        self.outside: list[str] = []
        """Topics of what was sent in none."""
        self.fails_at: tuple[str, int] | None = None

    def _letter(self, number: int) -> Letter:
        rejected = Rejected(valid(f"r{number}", number), InvalidMessage("feature_error", "input", "what"))
        key, value, headers = letter(rejected, 1_000)
        return read(record(value, key=key, offset=number, topic=NAMES.dead_letters, headers=headers))

    def sent(self, topic: str) -> list[Any]:
        return [value for each in self.transactions for where, value in each if where == topic]

    def install(self, patch: pytest.MonkeyPatch) -> Redriver:
        async def letters(*_: Any) -> AsyncIterator[Letter]:
            for each in self.letters:
                yield each

        async def whole(_servers: str, topic: str) -> AsyncIterator[Record]:
            for value in self.sent(topic):
                yield record(value, topic=topic)

        patch.setattr(redrive, "letters", letters)
        patch.setattr(redrive, "whole", whole)
        patch.setattr(redrive, "CHUNK", CHUNK)
        patch.setattr(redrive, "AIOKafkaProducer", lambda **_: Producer(self))
        return Redriver("", NAMES, group="g", by="test")


class Producer:
    """As the redriver uses it: a transaction that fails leaves nothing."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._open: list[tuple[str, Any]] | None = None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        assert self._open is None
        self._open = []
        try:
            yield
            self._broker.transactions.append(self._open)
        finally:
            self._open = None

    async def send(self, topic: str, value: Any, _key: Any, **_: Any) -> Any:
        if self._broker.fails_at is not None and self._broker.fails_at[0] == topic:
            if not self._broker.fails_at[1]:
                raise KafkaError("gone")
            self._broker.fails_at = topic, self._broker.fails_at[1] - 1
        if self._open is None:
            self._broker.outside.append(topic)
        else:
            self._open.append((topic, value))

        answer = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer


async def test_each_transaction_holds_messages_and_the_notes_of_just_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker()
    redriver = broker.install(monkeypatch)
    assert [each.end for each in await redriver.run(Wanted(), **LIMITS)] == ["sent"] * COUNT
    assert broker.outside == []
    assert [len(each) for each in broker.transactions] == [2 * CHUNK, 2 * CHUNK, 2]
    for each in broker.transactions:
        messages = [value for topic, value in each if topic == NAMES.requests]
        notes = [Decoder(Redrive).decode(value) for topic, value in each if topic == NAMES.redrives]
        assert [broker.letters[note.letter.offset].value for note in notes] == messages


@pytest.mark.parametrize("topic", [NAMES.requests, NAMES.redrives])
@pytest.mark.parametrize("after", range(COUNT))
async def test_a_run_that_fails_anywhere_has_noted_what_it_sent_and_the_next_one_sends_the_rest(
    topic: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    redriver = broker.install(monkeypatch)
    broker.fails_at = topic, after
    with pytest.raises(KafkaError):
        await redriver.run(Wanted(), **LIMITS)
    done = len(broker.sent(NAMES.requests))
    assert done == len(broker.sent(NAMES.redrives)) == after // CHUNK * CHUNK
    broker.fails_at = None
    results = await redriver.run(Wanted(), **LIMITS)
    assert [each.end for each in results] == ["sent before"] * done + ["sent"] * (COUNT - done)
    assert broker.sent(NAMES.requests) == [each.value for each in broker.letters]
