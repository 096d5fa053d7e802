"""Committers: how a batch's output becomes final. Three kinds, one shape.

``open`` fences whoever held the partition before and only then reads the committed position; the order
is what keeps a paused and resumed owner from committing a batch that its successor has done already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupLoadInProgressError, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from pointsman.streams.errors import Fenced
from pointsman.streams.output import Committed, Message, Output
from pointsman.streams.settings import Settings
from pointsman.streams.transactions import Transactions, unasked

logger = logging.getLogger(__name__)

BATCH_BYTES: Final = 900_000
"""Below the broker's default `message.max.bytes` (1,048,588) with room for batch and record headers."""
RETRY_MS: Final = 10
"""Wait before a request is sent again."""
CLOSE_S: Final = 3.0
"""A producer in trouble gets so long to close politely; then its connections are cut."""


class Committer(Protocol):
    """One partition's way to commit."""

    async def open(self) -> Committed:
        """Fence, then read what was committed. Raises when the servers are not there."""

    async def begin(self) -> None:
        """A batch is under way whose output will be committed: what can be done ahead may be done now."""

    async def commit(self, output: Output) -> None:
        """All of the output or nothing. After any error this committer must not be used again."""

    async def close(self) -> None:
        """Give everything back. Never raises."""


class Transactional:
    """Messages and offsets in one Kafka transaction: exactly once for `read_committed` readers."""

    def __init__(
        self,
        *,
        servers: str,
        group: str,
        transactional_id: str,
        partitions: tuple[TopicPartition, ...],
        settings: Settings,
        admin: Callable[[], AIOKafkaAdminClient],
    ) -> None:
        self._group = group
        self._partitions = partitions
        self._admin = admin
        # The broker's own limit lies above our deadline, so that our abort comes first.
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            transactional_id=transactional_id,
            transaction_timeout_ms=settings.transaction_deadline_ms * 2,
            request_timeout_ms=settings.transaction_deadline_ms,
            compression_type=_codec(settings),
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
            acks="all",
            # The broker answers "not yet" while it still ends the transaction before; the default waits 100 ms.
            retry_backoff_ms=RETRY_MS,
        )
        self._transactions = Transactions.install(self._producer, group)
        self._written: list[TopicPartition] = []

    async def open(self) -> Committed:
        """Start the producer, which aborts what a former owner left open; then read the offsets."""
        await self._producer.start()
        return await committed(self._admin(), self._group, self._partitions)

    async def begin(self) -> None:
        """Tell the coordinator what the transaction will write, by the last one, while the batch is worked on."""
        if not self._transactions.begun:
            await self._producer.begin_transaction()
        self._transactions.announce(self._written)

    async def commit(self, output: Output) -> None:
        """One transaction. Raises `Fenced` if another owner has the partition."""
        producer = self._producer
        try:
            if not self._transactions.begun:
                await producer.begin_transaction()
            self._written = [TopicPartition(*where) for where in output.messages]
            self._transactions.announce(self._written)
            await self._transactions.named()
            await asyncio.gather(*await send(producer, output))
            if output.positions:
                offsets = {tp: OffsetAndMetadata(at, output.metadata) for tp, at in output.positions.items()}
                await producer.send_offsets_to_transaction(offsets, self._group)
            await producer.commit_transaction()
        except ProducerFenced as error:
            msg = "another worker owns this partition now"
            raise Fenced(msg) from error

    async def close(self) -> None:
        """Close; an open transaction is aborted by the successor's start or by its time-out."""
        await close(self._producer)


class AtLeastOnce:
    """Messages, then offsets: for a broker without transactions. A crash between the two repeats a batch."""

    def __init__(
        self,
        *,
        servers: str,
        group: str,
        partitions: tuple[TopicPartition, ...],
        settings: Settings,
        consumer: AIOKafkaConsumer,
        admin: Callable[[], AIOKafkaAdminClient] | None,
    ) -> None:
        """``admin``: None for the embedded broker, which refuses an admin client's question."""
        self._group = group
        self._admin = admin
        self._partitions = partitions
        self._consumer = consumer
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            request_timeout_ms=settings.transaction_deadline_ms,
            compression_type=_codec(settings),
            max_batch_size=BATCH_BYTES,
            linger_ms=0,
            acks="all",
            enable_idempotence=True,
        )

    async def open(self) -> Committed:
        """Start the producer, read the offsets."""
        await self._producer.start()
        if self._admin is not None:
            return await committed(self._admin(), self._group, self._partitions)
        # The public `committed` leaves the metadata out. An error is taken for "none yet" here; this broker, which
        # is never away and back, has none.
        coordinator = self._consumer._coordinator  # noqa: SLF001
        return as_committed(
            await coordinator.fetch_committed_offsets(list(self._partitions)), self._partitions
        )

    async def begin(self) -> None:
        """There is nothing to be done ahead."""

    async def commit(self, output: Output) -> None:
        """Send, wait for the broker, then commit the offsets."""
        await asyncio.gather(*await send(self._producer, output))
        if output.positions:
            await self._consumer.commit(
                {tp: OffsetAndMetadata(at, output.metadata) for tp, at in output.positions.items()}
            )

    async def close(self) -> None:
        """Close the producer."""
        await close(self._producer)


async def committed(
    admin: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]
) -> Committed:
    """The group's offsets and metadata for these partitions.

    Raises KafkaError where the broker cannot say. The client drops the answer's own error, as of a coordinator that
    still loads after a restart, and only the partitions are missing then; for one without an offset it says -1.
    Taken for "none yet", a missing one would be read from its beginning.
    """
    wanted = list(partitions)
    found = await admin.list_consumer_group_offsets(group, partitions=wanted)
    if missing := [tp for tp in wanted if tp not in found]:
        raise GroupLoadInProgressError(f"the coordinator of {group} says nothing of {missing}")
    return as_committed(found, wanted)


def as_committed(
    found: Mapping[TopicPartition, OffsetAndMetadata], wanted: Iterable[TopicPartition]
) -> Committed:
    """Positions, None where there is none yet, and the metadata."""
    known = {tp: at for tp in wanted if (at := found.get(tp)) is not None and at.offset >= 0}
    metadata = next((at.metadata for at in known.values() if at.metadata), "")
    return Committed({tp: known[tp].offset if tp in known else None for tp in wanted}, metadata)


async def send(producer: AIOKafkaProducer, output: Output) -> list[asyncio.Future[Any]]:
    """Hand all messages over, in batches built here: one future a batch instead of one a message."""
    futures = []
    for (topic, partition), messages in output.messages.items():
        for batch in batches(producer, messages):
            future = await producer.send_batch(batch, topic, partition=partition)
            # Where another step of the transaction fails first nobody asks for this one's error.
            unasked(future)
            futures.append(future)
    return futures


def batches(producer: AIOKafkaProducer, messages: list[Message]) -> Iterable[Any]:
    """Record batches, each as large as may be."""
    batch = producer.create_batch()
    for key, value, headers in messages:
        if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            yield batch
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value, headers=headers)
    if batch.record_count():
        yield batch


async def close(producer: AIOKafkaProducer) -> None:
    """Stop a producer, in whatever state it is; its connections go in any case.

    Also if whoever waits is cancelled meanwhile, as by a rebalance: its tasks would be left behind.
    """
    closing = asyncio.create_task(_close(producer))
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        raise


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), CLOSE_S)
    except (TimeoutError, KafkaError, OSError) as error:
        logger.debug("a producer did not close politely: %r", error)
        await _abandon(producer)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End what `stop` leaves running when it does not end: a sender that tries for ever, and who waits for it."""
    sender, accumulator = producer._sender, producer._message_accumulator  # noqa: SLF001 - nothing public does it
    await producer.client.close()  # first: what is under way fails at once
    for batch in (*chain.from_iterable(accumulator._batches.values()), *accumulator._pending_batches):  # noqa: SLF001
        batch.future.cancel()  # nobody waits for it but the accumulator's own close
    if sender is not None:
        try:
            await asyncio.wait_for(sender.close(), CLOSE_S)
        except (TimeoutError, KafkaError, OSError) as error:
            logger.debug("a sender ended with %r", error)


def _codec(settings: Settings) -> str | None:
    """As the client wants it."""
    return None if settings.compression == "none" else settings.compression
