"""`Intake`: records from a lane's consumer to its loops; a partition that cannot be read does not keep the others waiting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from pointsman.streams.fetches import Fetches
from pointsman.streams.partition import PartitionLoop
from pointsman.streams.source import ConsumerSource

logger = logging.getLogger(__name__)

POLL_MS: Final = 500
"""How long a fetch may wait for the first record; a stop waits so long at most."""
ONE_MS: Final = 10
"""The same for one partition alone, while the others wait: what is fetched is there at once, or in the next round."""
POLL_RECORDS: Final = 2_000
"""Records unpacked in one go: some 6 ms, after which the partitions get their turn."""


class Intake:
    """Asks the consumer, round by round. Which loops there are is the lane's affair."""

    def __init__(
        self,
        lane: str,
        consumer: AIOKafkaConsumer,
        source: ConsumerSource,
        fetches: Fetches,
        loops: Mapping[int, PartitionLoop],
        *,
        number_of: Callable[[TopicPartition], int],
        stopping: Callable[[], bool],
    ) -> None:
        """``loops``: by number, as they come and go; ``number_of``: which one a partition belongs to; ``stopping``:
        whether to leave off within a round.
        """
        self.polled = time.monotonic()
        """When the consumer was asked last."""
        self._lane = lane
        self._consumer = consumer
        self._source = source
        self._fetches = fetches
        self._loops = loops
        self._number_of = number_of
        self._stopping = stopping

    async def take(self) -> bool:
        """One round; False where it should not be tried again at once."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
        except OffsetOutOfRangeError as error:
            self.begin_anew(error.args[0])
            return True
        except KafkaError as error:
            logger.warning("fetch failed", extra={"lane": self._lane, "error": repr(error)})
            self._rewind()
            await self._one_by_one()
            return False
        self.polled = time.monotonic()
        for tp, records in fetched.items():
            loop = self._loops.get(self._number_of(tp))
            if loop is not None:
                loop.offer(tp, records)
        return True

    def begin_anew(self, lost: Iterable[TopicPartition]) -> None:
        """Partitions whose position the broker no longer has: their loops find the place to go on, and say it."""
        for tp in lost:
            loop = self._loops.get(self._number_of(tp))
            if loop is not None:
                self._source.pause(tp)  # which a rebalance may have taken away by now
                loop.fail(OffsetOutOfRangeError({tp: loop.expected.get(tp)}))

    def _rewind(self) -> None:
        """Fetch again what was not offered.

        One partition's unreadable batch makes `getmany` raise after it has moved the positions of others, whose
        records go with the error.
        """
        self._fetches.at_once()
        for loop in self._loops.values():
            for tp, at in loop.expected.items() if loop.ready.is_set() else ():
                if tp in self._consumer.assignment():
                    self._consumer.seek(tp, at)

    async def _one_by_one(self) -> None:
        """After an error that names no partition: find the one it comes from, and let the others go on."""
        for loop in [loop for loop in self._loops.values() if loop.ready.is_set()]:
            for tp in loop.partitions:
                if self._stopping():
                    return
                self.polled = time.monotonic()
                try:
                    fetched = await self._consumer.getmany(tp, timeout_ms=ONE_MS, max_records=POLL_RECORDS)
                except OffsetOutOfRangeError as error:
                    self.begin_anew(error.args[0])
                except KafkaError as error:
                    self._source.pause(tp)
                    loop.fail(error, after=tp)
                else:
                    for records in fetched.values():
                        loop.offer(tp, records)
