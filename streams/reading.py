"""How every consumer of this process takes fetched batches apart: bounded, and past what cannot be read.

aiokafka inflates a batch whole, however large, and raises where it cannot, at every fetch anew. `install` puts
`BoundedRecords` and bounded decoders in the places where it looks for its own; tests hold those places.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import aiokafka.codec
import aiokafka.consumer.fetcher
import aiokafka.record.default_records
import aiokafka.record.legacy_records
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record._crecords import default_records, legacy_records
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from pointsman.schemas.errors import InvalidMessage
from pointsman.streams import metrics
from pointsman.streams.bounded import Decoders, Refused, Run, current
from pointsman.streams.output import Record
from pointsman.streams.settings import BATCH_INFLATED_BYTES_MAX
from pointsman.streams.unreadable import Unreadable, unreadable

logger = logging.getLogger(__name__)

RUN_BYTES: Final = 16 * 1024 * 1024
"""Inflated from one partition's fetch before the rest is fetched anew: else many batches below the bound add up."""
MODULES: Final = (
    aiokafka.codec,
    aiokafka.record.default_records,
    aiokafka.record.legacy_records,
    default_records,
    legacy_records,
)
LENGTH: Final = struct.Struct(">i")
LENGTH_AT: Final = 8
"""Of a batch: how many bytes come behind this number, whatever its format."""
CHECKED_AT: Final = 21
"""From here on the checksum of a batch of version 2 covers it."""
CODECS: Final = ("gzip", "snappy", "lz4", "zstd")


def install(bytes_max: int = 0) -> None:
    """Bound every consumer of this process; ``bytes_max`` of a batch, 0: as it was set before, or the default."""
    known = getattr(aiokafka.codec.gzip_decode, "__self__", None)
    if known is not None and bytes_max in (0, known.bytes_max):
        return
    decoders = Decoders(bytes_max or BATCH_INFLATED_BYTES_MAX)
    for module in MODULES:
        for codec in CODECS:
            name = f"{codec}_decode"
            if hasattr(module, name):
                setattr(module, name, getattr(decoders, codec))
    aiokafka.consumer.fetcher.MemoryRecords = Fetched
    aiokafka.consumer.fetcher.PartitionRecords = BoundedRecords


def consumer(*topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer whose reading is bounded; arguments are `AIOKafkaConsumer`'s."""
    install()
    return AIOKafkaConsumer(*topics, **options)


def ended(consumer: AIOKafkaConsumer) -> list[asyncio.Future[Any]]:
    """Those of its background tasks that have ended: it reads nothing then, or never learns of another leader."""
    reader, member, client = consumer._fetcher, consumer._coordinator, consumer._client  # noqa: SLF001
    tasks = (reader.error_future, member._coordination_task, client._sync_task)  # noqa: SLF001
    return [task for task in tasks if task.done()]


def informed(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> bool:
    """Whether the client knows the partitions of these topics."""
    return all(consumer.partitions_for_topic(topic) is not None for topic in topics)


def inform(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> None:
    """Have the client ask for topics that it knows nothing of; call it again and again.

    It asks once by itself, and where the broker has just gone, not again for five minutes. Who leads the group meanwhile
    gives nobody a partition of them. Once they are known, the client has the group begin anew.
    """
    if not informed(consumer, topics):
        consumer._client.force_metadata_update()  # noqa: SLF001


class BadChecksum(CorruptRecordException):  # type: ignore[misc]
    """A batch's bytes are not those that were written, or its length cannot be. It may be the transport, so it is fetched again."""


class Fetched:
    """aiokafka's `MemoryRecords`, and the bytes that it takes apart."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._records = MemoryRecords(data)
        self.has_next: Callable[[], bool] = self._records.has_next
        self.next_batch: Callable[[], Any] = self._records.next_batch
        self.size_in_bytes: Callable[[], int] = self._records.size_in_bytes


class _Batches(Run):
    """Checks each batch, remembers it, and ends when enough was inflated."""

    def __init__(self, records: Fetched, tp: TopicPartition) -> None:
        super().__init__(RUN_BYTES)
        self.last: Any = None
        self._records = records
        self._tp = tp
        self._at = 0

    def has_next(self) -> bool:
        return self.left > 0 and self._records.has_next()

    def next_batch(self) -> Any:
        try:
            batch = self._records.next_batch()
        except CorruptRecordException as error:
            # Its length makes no sense, and nobody can say where the next one begins.
            msg = f"{self._tp.topic}[{self._tp.partition}]: {error}"
            raise BadChecksum(msg) from error
        if not self._sound(batch):
            msg = f"{self._tp.topic}[{self._tp.partition}]: the checksum of a batch is wrong"
            raise BadChecksum(msg)
        self.last = batch
        current.run = self
        return batch

    def _sound(self, batch: Any) -> bool:
        """Whether its checksum is right: by the processor's instruction, for the client's own takes 20 times as long."""
        data, at = self._records.data, self._at
        (length,) = LENGTH.unpack_from(data, at + LENGTH_AT)
        self._at = end = at + LENGTH_AT + LENGTH.size + length
        if batch.producer_id is None:  # the formats before version 2 have another checksum, elsewhere
            return bool(batch.validate_crc())
        return bool(batch.crc == crc32c(memoryview(data)[at + CHECKED_AT : end]))


class BoundedRecords(PartitionRecords):  # type: ignore[misc]
    """The records of one partition's fetch; an `Unreadable` in the place of a batch that cannot be read."""

    next_fetch_offset: int
    _records: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._check_crcs = False  # done here, where it can be told from a content that makes no sense
        self._records = self._batches = _Batches(self._records, self._tp)
        self._records_iterator = self._read()

    def __iter__(self) -> Iterator[Record]:
        return self._records_iterator  # without a call in between for each record

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Record:
        headers, timestamp = record.headers, record.timestamp
        return Record(
            tp[0],
            tp[1],
            record.offset,
            -1 if timestamp is None else timestamp,  # the first format has none
            record.timestamp_type,
            record.key,
            record.value,
            tuple(headers) if headers else (),
        )

    def _read(self) -> Iterator[Record]:
        began = self.next_fetch_offset
        while True:
            try:
                yield from self._unpack_records()
                return
            except (BadChecksum, UnsupportedCodecError, MemoryError):
                # Nobody can say that these bytes are at fault. What was read before them goes its way first; then the
                # next fetch begins here, and this is raised.
                if self.next_fetch_offset == began:
                    raise
                return
            except Exception as error:  # noqa: BLE001 - whatever the parser says: the checksum holds, so it was written so
                stand_in = self._stand_in(error)
            if stand_in is not None:
                yield stand_in

    def _stand_in(self, error: Exception) -> Unreadable | None:
        """Go on behind the batch at hand; a record in the place of what was not read of it, None if that is nothing."""
        batch = self._batches.last
        if batch is None:
            raise error
        first, old = self.next_fetch_offset, batch.producer_id is None
        if not old:  # the formats before version 2 name their last offset only
            first = max(first, batch.base_offset)
        last = batch.next_offset - 1
        self.next_fetch_offset = max(batch.next_offset, first)
        refused = error if isinstance(error, Refused) else None
        invalid = (
            refused.invalid
            if refused
            else InvalidMessage("corrupt_batch", "batch", f"records that can be taken apart ({error})")
        )
        metrics.UNREADABLE.labels(self._tp.topic, invalid.reason).inc()
        place = {
            "topic": self._tp.topic,
            "partition": self._tp.partition,
            "offset": first,
            "last_offset": last,
        }
        logger.error("a batch cannot be read; passed over", extra={**place, "error": str(invalid)})
        if last < first:
            return None
        return unreadable(
            self._tp,
            (first, last),
            invalid,
            sha256=refused.sha256 if refused else None,
            size=refused.size if refused else None,
            crc32c=None if old else batch.crc,
            timestamp=0 if old else batch.max_timestamp,
        )
