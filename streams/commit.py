"""Committers: how a batch's output becomes final. Three kinds, one shape.

``open`` reads the committed position once nobody who held the partition before can still move it, which
is what keeps a paused and resumed owner from committing a batch that its successor has done already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupLoadInProgressError
from aiokafka.structs import OffsetAndMetadata

from pointsman.streams.membership import stable_offsets
from pointsman.streams.output import Committed, Output
from pointsman.streams.producer import Producer, close, codec, note_ends, send
from pointsman.streams.record_batch import BATCH_BYTES
from pointsman.streams.settings import Settings


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
        producer: Producer,
        admin: Callable[[], AIOKafkaAdminClient],
        group: str,
        partitions: tuple[TopicPartition, ...],
    ) -> None:
        """``producer``: not started yet; it is closed with the committer."""
        self._group = group
        self._partitions = partitions
        self._admin = admin
        self._producer = producer
        self._written: list[TopicPartition] = []

    async def open(self) -> Committed:
        """Start the producer, which ends what another one of its id left open; then read the offsets."""
        await self._producer.start()
        return await stable(self._admin(), self._group, self._partitions)

    async def begin(self) -> None:
        """Tell the coordinator what the transaction will write, by the last one, while the batch is worked on."""
        self._producer.announce(self._written)

    async def commit(self, output: Output) -> None:
        """One transaction. Raises `Fenced` if another owner has the partition."""
        self._written = [TopicPartition(*where) for where in output.messages]
        await self._producer.commit([output])

    async def close(self) -> None:
        """Close; an open transaction is ended by the next start of its id or by its time-out."""
        await self._producer.close()


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
            compression_type=codec(settings),
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
        sent = await asyncio.gather(*await send(self._producer, output.messages))
        note_ends([output], output.messages, sent)
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
    return as_committed(await offsets(admin, group, wanted), wanted)


async def offsets(
    admin: AIOKafkaAdminClient, group: str, wanted: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The same as the client has it, -1 where there is none yet. Raises KafkaError where the broker cannot say."""
    found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
        group, partitions=list(wanted)
    )
    if missing := [tp for tp in wanted if tp not in found]:
        raise GroupLoadInProgressError(f"the coordinator of {group} says nothing of {missing}")
    return found


async def stable(admin: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]) -> Committed:
    """What `committed` says, once no transaction is open that could still move one of them. Raises KafkaError."""
    wanted = list(partitions)
    return as_committed(await stable_offsets(admin, group, wanted), wanted)


def as_committed(
    found: Mapping[TopicPartition, OffsetAndMetadata], wanted: Iterable[TopicPartition]
) -> Committed:
    """Positions, None where there is none yet, and the metadata."""
    known = {tp: at for tp in wanted if (at := found.get(tp)) is not None and at.offset >= 0}
    metadata = next((at.metadata for at in known.values() if at.metadata), "")
    return Committed({tp: known[tp].offset if tp in known else None for tp in wanted}, metadata)
