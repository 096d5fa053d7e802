"""`Transactions`: a transaction in the order that the broker likes, and begun before its messages are there.

A transaction takes five round trips: its partitions, the consumer group, the messages, the offsets, the end. The client
starts with the first one when the messages come. Most of what the first two say is known when the work on a batch
begins, so here they pass while features are computed and the model is asked.

The client also sends messages beside the other requests. The broker then looks twice at a time whether the transaction
is under way, refuses one of the two for the other's sake, and the client waits and asks again: one in twenty
transactions took 10 to 40 ms longer. Here each step follows the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import aiokafka.producer.sender
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer.transaction_manager import TransactionManager

AGAIN_S: Final = 0.004
"""While the broker still ends the transaction before, a new one is refused: that takes it a few milliseconds, and the
client would wait for 20."""


class Transactions(TransactionManager):  # type: ignore[misc]
    """The client's own bookkeeping, which can name the group without the offsets, and says when all is named."""

    def __init__(self, transactional_id: str, timeout_ms: int, group: str) -> None:
        super().__init__(transactional_id, timeout_ms)
        self._group = group
        self.begun = False
        """Whether a transaction is under way, be it one that has failed."""
        self._named: asyncio.Future[None] | None = None

    @classmethod
    def install(cls, producer: AIOKafkaProducer, group: str) -> Transactions:
        """Into a producer that is not started yet; it would make one of its own kind."""
        aiokafka.producer.sender.BACKOFF_OVERRIDE = AGAIN_S  # of the module: there is no option for it
        own = producer._txn_manager  # noqa: SLF001 - the client has no public way
        made = cls(own.transactional_id, own.transaction_timeout_ms, group)
        for part in (producer, producer._message_accumulator, producer._sender):  # noqa: SLF001
            part._txn_manager = made  # noqa: SLF001
        return made

    def announce(self, partitions: Iterable[TopicPartition]) -> None:
        """Name partitions that will be written, and the group. Call it in a transaction, as often as there is news.

        One that is named and gets nothing costs a marker. Raises what has failed the transaction.
        """
        if not self.begun:
            self.begun = True
            unasked(self.wait_for_transaction_end())  # if the work fails nobody asks for its end
        self._raise_failure()
        for tp in partitions:
            self.maybe_add_partition_to_txn(tp)
        self.notify_task_waiter()

    async def named(self) -> None:
        """Wait until the broker knows all that was announced. Raises what has failed the transaction."""
        if not self._all_named():
            self._named = asyncio.get_running_loop().create_future()
            ends = (self._named, self.wait_for_transaction_end())
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if (end := self.wait_for_transaction_end()).done():
            end.result()

    def _all_named(self) -> bool:
        return not self.partitions_to_add() and self._txn_consumer_group is not None

    # -- what the client's sender calls ----------------------------------------------------------

    def consumer_group_to_add(self) -> str | None:
        """After the partitions; the client's own names it once it has offsets."""
        if self.begun and self.is_in_transaction() and self._txn_consumer_group is None:
            return self._group
        named: str | None = super().consumer_group_to_add()
        return named

    def partition_added(self, tp: TopicPartition) -> None:
        """The broker knows it."""
        super().partition_added(tp)
        self._tell()

    def consumer_group_added(self, group_id: str) -> None:
        """The broker knows it."""
        super().consumer_group_added(group_id)
        self._tell()

    def fatal_error(self, exc: BaseException) -> None:
        """Of a transaction that had failed already nobody asks for the end again."""
        super().fatal_error(exc)
        unasked(self.wait_for_transaction_end())

    def complete_transaction(self) -> None:
        """The next one is not begun."""
        self.begun = False
        super().complete_transaction()

    def _tell(self) -> None:
        if self._named is not None and self._all_named() and not self._named.done():
            self._named.set_result(None)


def unasked(future: asyncio.Future[Any]) -> None:
    """Nobody may ever ask for its error; that is no reason for asyncio to complain."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
