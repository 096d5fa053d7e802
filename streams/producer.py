"""`Producer`: one transactional id, and a transaction at a time, built of batches made here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from pointsman.streams.errors import Expelled, Fenced
from pointsman.streams.membership import Member, ProducerExpelled, install
from pointsman.streams.output import Message, Output
from pointsman.streams.record_batch import BATCH_BYTES, record_batches
from pointsman.streams.settings import Settings
from pointsman.streams.transactions import Transactions, unasked

logger = logging.getLogger(__name__)

RETRY_MS: Final = 10
"""Wait before a request is sent again."""
CLOSE_S: Final = 3.0
"""A producer in trouble gets so long to close politely; then its connections are cut."""


class Producer:
    """After any error it must be closed; another one with its id then ends what it left open."""

    def __init__(
        self,
        *,
        servers: str,
        group: str,
        transactional_id: str,
        settings: Settings,
        member: Member,
    ) -> None:
        """``member``: whose partitions it commits; the broker refuses offsets of one that the group has expelled."""
        self._group = group
        # The broker's own limit lies above our deadline, so that our abort comes first.
        self.client = AIOKafkaProducer(
            bootstrap_servers=servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=settings.transaction_deadline_ms * 2,
            request_timeout_ms=settings.transaction_deadline_ms,
            compression_type=codec(settings),
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
            acks="all",
            # The broker answers "not yet" while it still ends the transaction before; the default waits 100 ms.
            retry_backoff_ms=RETRY_MS,
        )
        self.transactions = Transactions.install(self.client, group)
        install(self.client, member)

    async def start(self) -> None:
        """Which ends what another one of this id left open."""
        await self.client.start()

    def announce(self, partitions: Iterable[TopicPartition]) -> None:
        """Tell the coordinator what the transaction will write, while that is still worked on; begins it."""
        if not self.transactions.begun:
            self.transactions.begin_transaction()
        self.transactions.announce(partitions)

    async def commit(self, outputs: Sequence[Output]) -> None:
        """One transaction for all of them. Raises `Fenced` if another owner has what they come from."""
        try:
            messages = merged(outputs)
            self.announce(TopicPartition(*where) for where in messages)
            await self.transactions.named()
            sent = await asyncio.gather(*await send(self.client, messages))
            if offsets := positions(outputs):
                await self.client.send_offsets_to_transaction(offsets, self._group)
            await self.client.commit_transaction()
            note_ends(outputs, messages, sent)
        except ProducerExpelled as error:
            msg = "the group has gone on without this worker"
            raise Expelled(msg) from error
        except ProducerFenced as error:
            msg = "another worker owns this partition now"
            raise Fenced(msg) from error

    async def close(self) -> None:
        """Close; an open transaction is ended by the next start of its id or by its time-out. Never raises."""
        await close(self.client)


def note_ends(
    outputs: Iterable[Output], messages: Mapping[tuple[str, int], Sequence[Message]], sent: Iterable[Any]
) -> None:
    """Where the messages lie now: one producer's of one transaction follow each other."""
    first: dict[tuple[str, int], int] = {}
    for each in sent:
        where = each.topic, each.partition
        first[where] = min(each.offset, first.get(where, each.offset))
    for output in outputs:
        output.ends |= {where: first[where] + len(messages[where]) for where in output.messages}


def merged(outputs: Sequence[Output]) -> Mapping[tuple[str, int], Sequence[Message]]:
    """The messages of all, by topic and partition: of two batches for one the client sends the second after the first."""
    if len(outputs) == 1:
        return outputs[0].messages
    messages: dict[tuple[str, int], list[Message]] = {}
    for output in outputs:
        for where, some in output.messages.items():
            messages.setdefault(where, []).extend(some)
    return messages


def positions(outputs: Iterable[Output]) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """What is committed of each partition that was read."""
    return {
        tp: OffsetAndMetadata(at, output.metadata)
        for output in outputs
        for tp, at in output.positions.items()
    }


async def send(
    producer: AIOKafkaProducer, by_place: Mapping[tuple[str, int], Sequence[Message]]
) -> list[asyncio.Future[Any]]:
    """Hand all messages over, in batches built here: one future a batch instead of one a message."""
    futures = []
    for (topic, partition), messages in by_place.items():
        for each in batches(producer, messages):
            future = await producer.send_batch(each, topic, partition=partition)
            # Where another step of the transaction fails first nobody asks for this one's error.
            unasked(future)
            futures.append(future)
    return futures


def batches(producer: AIOKafkaProducer, messages: Sequence[Message]) -> Iterable[Any]:
    """Record batches, each as large as may be."""
    accumulator = producer._message_accumulator  # noqa: SLF001 - the client has no public way
    if accumulator._compression_type:  # noqa: SLF001
        return clients_batches(producer, messages)
    transactions = producer._txn_manager  # noqa: SLF001
    transactional = transactions is not None and transactions.transactional_id is not None
    return record_batches(messages, transactional=transactional)


def clients_batches(producer: AIOKafkaProducer, messages: Sequence[Message]) -> Iterable[Any]:
    """The same by the client's own builder, which can compress."""
    made = producer.create_batch()
    for key, value, headers in messages:
        if made.append(timestamp=None, key=key, value=value, headers=headers) is None:
            yield made
            made = producer.create_batch()
            made.append(timestamp=None, key=key, value=value, headers=headers)
    if made.record_count():
        yield made


async def close(producer: AIOKafkaProducer) -> None:
    """Stop a producer, in whatever state it is; its connections go in any case. Never raises.

    Also if whoever waits is cancelled meanwhile, as by a rebalance: its tasks would be left behind.
    """
    closing = asyncio.create_task(_close(producer))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        raise


async def _close(producer: AIOKafkaProducer) -> None:
    if not await _ended(producer.stop()):
        await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End what `stop` leaves running when it does not end: a sender that tries for ever, and who waits for it."""
    sender, accumulator = producer._sender, producer._message_accumulator  # noqa: SLF001 - nothing public does it
    await _ended(producer.client.close())  # first: what is under way fails at once
    pending = accumulator._pending_batches  # noqa: SLF001
    for batch in (*chain.from_iterable(accumulator._batches.values()), *pending):  # noqa: SLF001
        # The end of one that was to be sent again is looked for among these, where it is no more.
        pending.add(batch)
        batch.future.cancel()  # nobody waits for it but the accumulator's own close
    if sender is not None:
        await _ended(sender.close())


async def _ended(step: Coroutine[Any, Any, None]) -> bool:
    """Whether a step of closing came to its end.

    Any error will do: a sender that sends a batch again, which was given up meanwhile, ends with a KeyError.
    """
    try:
        await asyncio.wait_for(step, CLOSE_S)
    except Exception as error:  # noqa: BLE001
        logger.debug("a producer did not close politely: %r", error)
        return False
    return True


def codec(settings: Settings) -> str | None:
    """As the client wants it."""
    return None if settings.compression == "none" else settings.compression
