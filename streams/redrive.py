"""Sends dead letters again, each once: messages and the note that they were sent go out in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from msgspec import Struct
from msgspec.structs import replace

from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.outcome import Cause
from pointsman.schemas.retry import HEADER_REDRIVEN, Redrive, Redriven
from pointsman.streams.errors import Fenced
from pointsman.streams.letters import Letter, Wanted, letters, obstacle
from pointsman.streams.topics import Names
from pointsman.streams.whole import whole

TIMES_MAX: Final = 3
"""A message that came back so often will come back again: something else than time must mend it."""
CHUNK: Final = 100
"""Letters of one transaction: some 25 MB where all are as large as may be, sent within its time."""

_decoder = Decoder(Redrive)

Identity = tuple[int, int, int]


class Result(Struct, frozen=True, kw_only=True):
    """What became of one letter, without its value where that is not needed any more; ``why`` it was refused."""

    letter: Letter
    end: Literal["sent", "would be sent", "sent before", "refused"]
    why: str = ""


class Redriver:
    """Sends letters again. A fixed transactional id fences a run that was paused and resumed, or runs beside it."""

    def __init__(
        self, servers: str, names: Names, *, group: str, by: str, transactional: bool = True
    ) -> None:
        self._servers = servers
        self._names = names
        self._by = by
        self._transactional_id = f"{group}-redrive" if transactional else None

    async def sent_before(self) -> set[Identity]:
        """Letters that were sent again already."""
        found = set()
        async for record in whole(self._servers, self._names.redrives):
            try:
                note = _decoder.decode(record.value or b"")
            except InvalidMessage:
                continue  # not ours: it says nothing of a letter of ours
            found.add((note.letter.partition, note.letter.offset, note.letter_ms))
        return found

    async def run(self, wanted: Wanted, *, most: int, times_max: int, dry: bool = False) -> list[Result]:
        """Send the first ``most`` of the wanted letters again, the oldest of each partition first.

        Raises `Fenced` when another run takes over: what this one had not committed is then not sent.
        """
        if dry:
            return await self._plan(wanted, most, times_max, "would be sent")
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            transactional_id=self._transactional_id,
            acks="all",
            enable_idempotence=True,
        )
        await producer.start()  # fences other runs: what is read now of their notes is all that there will be
        try:
            results = await self._plan(wanted, most, times_max, "sent")
            due = [result.letter for result in results if result.end == "sent"]
            for start in range(0, len(due), CHUNK):
                await self._send(producer, due[start : start + CHUNK])
        except ProducerFenced as error:
            msg = "another redrive took over; look with --dry-run what is left"
            raise Fenced(msg) from error
        finally:
            await producer.stop()
        return results

    async def _plan(
        self, wanted: Wanted, most: int, times_max: int, end: Literal["sent", "would be sent"]
    ) -> list[Result]:
        before = await self.sent_before()
        results: list[Result] = []
        count = 0
        async with aclosing(letters(self._servers, self._names)) as found:
            async for letter in found:
                if not wanted.takes(letter):
                    continue
                if letter.identity in before:
                    results.append(Result(letter=replace(letter, value=None), end="sent before"))
                elif why := obstacle(letter, self._names, times_max):
                    results.append(Result(letter=replace(letter, value=None), end="refused", why=why))
                else:
                    results.append(Result(letter=letter, end=end))
                    count += 1
                    if count == most:
                        break
        return results

    async def _send(self, producer: AIOKafkaProducer, chunk: Sequence[Letter]) -> None:
        now = datetime.now(UTC)
        if self._transactional_id:
            async with producer.transaction():
                await self._messages(producer, chunk)
                await self._notes(producer, chunk, now)
            return
        # Without transactions the note comes last: a run that dies between the two sends a letter a second time,
        # and the lane knows the repeated id.
        await self._messages(producer, chunk)
        await self._notes(producer, chunk, now)

    async def _messages(self, producer: AIOKafkaProducer, chunk: Sequence[Letter]) -> None:
        await asyncio.gather(
            *[
                await producer.send(
                    each.place.topic,
                    each.value,
                    each.key,
                    partition=each.place.partition,
                    headers=message_headers(each),
                )
                for each in chunk
            ]
        )

    async def _notes(self, producer: AIOKafkaProducer, chunk: Sequence[Letter], now: datetime) -> None:
        await asyncio.gather(
            *[
                await producer.send(
                    self._names.redrives,
                    encode(self._note(each, now)),
                    each.name.encode(),
                    partition=each.letter.partition,
                )
                for each in chunk
            ]
        )

    def _note(self, letter: Letter, now: datetime) -> Redrive:
        return Redrive(
            letter=letter.letter,
            letter_ms=letter.at_ms,
            to=letter.place.topic,
            partition=letter.place.partition,
            reason=letter.reason,
            count=letter.times_redriven + 1,
            redriven_at=now,
            redriven_by=self._by,
        )


def message_headers(letter: Letter) -> list[tuple[str, bytes]]:
    """The message's own headers, and how it comes to be sent again."""
    before, kept = letter.redriven, letter.kept
    own = Cause(reason=letter.reason, field=letter.field, expected=letter.expected)
    redriven = Redriven(
        count=letter.times_redriven + 1,
        place=before.place if before else letter.place,
        letter=letter.letter,
        first_error=before.first_error if before else kept.first_error if kept else own,
        assigned=kept.assigned if kept and kept.assigned else before.assigned if before else None,
    )
    headers = [(name, value) for name, value in letter.headers if name != HEADER_REDRIVEN]
    return [*headers, (HEADER_REDRIVEN, encode(redriven))]
