"""`Shared`: a loop's committer in the transactions of all, or in one of its own while it is in trouble."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from pointsman.streams.commit import Transactional, stable
from pointsman.streams.errors import Expelled
from pointsman.streams.output import Committed, Output
from pointsman.streams.together import Together


class Shared:
    """Of one partition number."""

    def __init__(self, together: Together, number: int, partitions: tuple[TopicPartition, ...]) -> None:
        self._together = together
        self._number = number
        self._partitions = partitions
        self._written: list[TopicPartition] = []
        self._own: Transactional | None = None

    async def open(self) -> Committed:
        """Read the offsets, once no transaction is open that could still move them.

        Former owners are fenced by the generation since the partition is this member's; here what they left open ends.
        """
        together = self._together
        await together.ready()
        await together.fence(self._number)
        if together.alone(self._number):
            producer = together.own_producer(self._number)
            self._own = Transactional(producer, together.admin, together.group, self._partitions)
            return await self._own.open()
        return await stable(together.admin(), together.group, self._partitions)

    async def begin(self) -> None:
        """Say where the last output went, while this batch is worked on."""
        if self._own is not None:
            await self._own.begin()
        else:
            self._together.expect(self._number, self._written)

    async def commit(self, output: Output) -> None:
        """In one transaction. Raises `Expelled` if the group has gone on without this worker."""
        self._written = [TopicPartition(*where) for where in output.messages]
        if self._own is None:
            await self._together.commit(self._number, output)
            return
        try:
            async with asyncio.timeout(self._together.deadline_s):
                await self._own.commit(output)
        except Expelled as error:
            self._together.expel(error)
            raise
        if self._together.succeeded(self._number):
            await self._own.close()
            self._own = None

    async def close(self) -> None:
        """What is not handed in does not come."""
        self._together.leave(self._number)
        if self._own is not None:
            await self._own.close()
