"""`Growth`: more partitions for all topics that have one number of them, and each unit's state moved to where its records will be.

Nothing may run meanwhile. What keeps workers out until all is done: topics of unequal numbers, for `decision-outcomes`
grows last, and the number beside the group's offsets (`layout`), which changes in the transaction that moves the state. So
a growth that was killed is begun again with the same number, and ends the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from msgspec import Struct

from pointsman.schemas import topics as schemas
from pointsman.streams import layout, reading
from pointsman.streams.backlog import Backlog, Sent
from pointsman.streams.errors import TopicProblem
from pointsman.streams.layout import settled
from pointsman.streams.log_end import to_end
from pointsman.streams.members import members
from pointsman.streams.membership import stable_offsets
from pointsman.streams.output import Message
from pointsman.streams.partitioner import PARTITIONERS
from pointsman.streams.producer import send
from pointsman.streams.settings import Settings
from pointsman.streams.shape import shapes
from pointsman.streams.state.move import Held, Move, hold, move
from pointsman.streams.topics import APPEAR_POLL_S, APPEAR_S, Names, control_group

logger = logging.getLogger(__name__)

QUIET_S: Final = 2.0
"""Between two looks at whether anybody still sends."""
TRANSACTION_MS: Final = 600_000
"""The one transaction may take so long; a broker allows 15 minutes if not told otherwise."""
PIECE: Final = 5_000
"""Records handed over at a time."""


class Grown(Struct):
    """What was done."""

    before: int
    """Partitions by which units were placed."""
    after: int
    topics: list[str]
    """That were grown now."""
    units: int
    """Whose state moved now."""
    entries: int
    """Values and notes of them."""
    sent_again: int
    """Records that waited where they no longer belong, or behind one of these."""


class Growth:
    """One run of it."""

    def __init__(
        self, admin: AIOKafkaAdminClient, servers: str, settings: Settings, after: int, partitioner: str
    ) -> None:
        self._admin = admin
        self._servers = servers
        self._settings = settings
        self._names = Names.of(settings)
        self._after = after
        self._partitioner = partitioner
        self._home = PARTITIONERS[partitioner]
        self._grown: list[str] = []
        deployed = schemas.co_partitioned(settings.retry_delays_ms)
        self._topics = [settings.topic_prefix + topic.name for topic in deployed]

    async def run(self) -> Grown:
        """All of it. Raises `TopicProblem` where something stands in the way, with what to do."""
        await self._nobody_runs()
        ends = await self._quiet()
        before, finishing = await self._begin()
        if not finishing:
            await self._drained(ends)
            await self._foreseen(before)
        last = self._names.outcomes
        await self._grow([name for name in self._topics if name != last])
        # Whoever came in since has seen topics change, and halts; nobody else begins.
        await self._nobody_runs()
        found, sent = await self._move(before)
        await self._grow([*await self._tables(), last])
        return Grown(
            before, self._after, self._grown, units=len(found.units), entries=found.entries, sent_again=sent
        )

    # -- what must hold --------------------------------------------------------------------------

    async def _begin(self) -> tuple[int, bool]:
        """By how many partitions units were placed, and whether topics have grown already."""
        found = await shapes(self._admin, self._topics)
        counts = {name: shape.partitions for name, shape in found.items()}
        if missing := [name for name, count in counts.items() if not count]:
            msg = f"topic {', '.join(missing)} does not exist: `pointsman topics create`"
            raise TopicProblem(msg)
        least, most = min(counts.values()), max(counts.values())
        tps = layout.inputs(self._names, counts[self._names.requests])
        tps = [tp for tp in tps if tp.partition < counts[tp.topic]]
        said = layout.placed_by(await self._committed(tps))
        if len(said) > 1:
            msg = f"group {self._settings.group} names several numbers of partitions: {sorted(said)}"
            raise TopicProblem(msg)
        before = said.pop() if said else least
        finishing = least < most or before != most
        if finishing and self._after != most:
            msg = f"topics have grown to {most} partitions already: first end that, with --partitions {most}"
            raise TopicProblem(msg)
        if not finishing and self._after <= most:
            msg = f"the topics have {most} partitions, and Kafka takes none away: --partitions must be more"
            raise TopicProblem(msg)
        return before, finishing

    async def _nobody_runs(self) -> None:
        group = self._settings.group
        groups = [group, f"{group}-sink", control_group(self._settings)]
        if found := await settled(lambda: members(self._admin, groups)):
            msg = f"{len(found)} workers are running ({'; '.join(sorted(found))}): stop them first"
            raise TopicProblem(msg)

    async def _quiet(self) -> Mapping[TopicPartition, int]:
        """The ends of what producers and lanes write. Raises `TopicProblem` where they move."""
        first = await self._ends()
        await asyncio.sleep(QUIET_S)
        last = await self._ends()
        if moving := sorted({tp.topic for tp, end in last.items() if first.get(tp) != end}):
            msg = f"somebody still sends to {', '.join(moving)}: stop the producers first"
            raise TopicProblem(msg)
        return last

    async def _ends(self) -> dict[TopicPartition, int]:
        names = self._names
        found = await shapes(self._admin, [names.requests, names.feedback, *names.retries])
        tps = [TopicPartition(name, n) for name, shape in found.items() for n in range(shape.partitions)]
        async with AsyncExitStack() as stack:
            consumer = await self._consumer(stack, "read_uncommitted")
            ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
        return ends

    async def _committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        wanted = list(tps)
        return await settled(lambda: stable_offsets(self._admin, self._settings.group, wanted))

    async def _drained(self, ends: Mapping[TopicPartition, int]) -> None:
        committed = await self._committed(ends)
        async with AsyncExitStack() as stack:
            consumer = await self._consumer(stack)
            waiting = await Backlog(consumer, ends).count(committed)
        if waiting:
            each = ", ".join(f"{count} in {topic}" for topic, count in waiting.items())
            msg = f"records wait to be decided or learned ({each}): let workers run until none does, then stop them"
            raise TopicProblem(msg)

    async def _foreseen(self, before: int) -> None:
        """What would be refused later is refused now: Kafka takes no partition away."""
        async with AsyncExitStack() as stack:
            held = await self._held(await self._consumer(stack), before)
        self._fits(move(held, before, self._after, self._home), before)

    # -- the topics ------------------------------------------------------------------------------

    async def _grow(self, names: Iterable[str]) -> None:
        """Those that are smaller, and wait until the broker shows it."""
        wanted = list(names)
        found = await shapes(self._admin, wanted)
        small = [name for name in wanted if found[name].partitions < self._after]
        for name in small:
            try:
                await self._admin.create_partitions({name: NewPartitions(self._after)})
            except KafkaError as error:
                msg = f"topic {name} cannot be grown: {type(error).__name__} {error}"
                raise TopicProblem(msg) from error
            self._grown.append(name)
            logger.info("topic grown", extra={"topic": name, "partitions": self._after})
        try:
            async with asyncio.timeout(APPEAR_S):
                while any(  # noqa: ASYNC110 - no event tells
                    each.partitions < self._after for each in (await shapes(self._admin, wanted)).values()
                ):
                    await asyncio.sleep(APPEAR_POLL_S)
        except TimeoutError:
            msg = f"the broker does not show {self._after} partitions of {', '.join(small)} after {APPEAR_S:.0f} s"
            raise TopicProblem(msg) from None

    async def _tables(self) -> list[str]:
        """Changelogs of the live figures, which Faust refuses where they have another number than the summaries."""
        begin = control_group(self._settings) + "-"
        return sorted(
            name
            for name in await self._admin.list_topics()
            if name.startswith(begin) and name.endswith("-changelog")
        )

    # -- what is kept ----------------------------------------------------------------------------

    async def _move(self, before: int) -> tuple[Move, int]:
        """One transaction: what is kept of units, what waits for them, and that it is so."""
        async with AsyncExitStack() as stack:
            group = self._settings.group
            producer = AIOKafkaProducer(
                bootstrap_servers=self._servers,
                transactional_id=f"{group}-{self._names.requests}-grow",
                transaction_timeout_ms=TRANSACTION_MS,
                acks="all",
                max_batch_size=1_000_000,
            )
            stack.push_async_callback(producer.stop)
            await producer.start()  # ends what one before left open, and it too
            consumer = await self._consumer(stack)
            found = move(await self._held(consumer, self._after), before, self._after, self._home)
            self._fits(found, before)
            ends = await self._ends()
            committed = await self._committed(ends)
            backlog = Backlog(consumer, ends)
            sent: list[Sent] = []
            offsets: dict[TopicPartition, OffsetAndMetadata] = {}
            for tp in ends:
                some, end = await backlog.astray(tp, committed, self._names, self._after, self._home)
                sent += some
                known = committed[tp]
                if some or known.offset >= 0:
                    said = layout.saying(known.metadata or "", self._after)
                    offsets[tp] = OffsetAndMetadata(end if some else known.offset, said)
            if found.messages or offsets:
                async with producer.transaction():
                    await self._write(producer, found.messages)
                    await self._send(producer, sent)
                    if offsets:
                        await producer.send_offsets_to_transaction(offsets, group)
        return found, len(sent)

    async def _held(self, consumer: AIOKafkaConsumer, partitions: int) -> list[Held]:
        held = []
        for number in range(partitions):
            tp = TopicPartition(self._names.state, number)
            entries: Held = {}
            first = (await consumer.beginning_offsets([tp]))[tp]
            consumer.assign([tp])
            consumer.seek(tp, first)
            async for records, _ in to_end(consumer, tp):
                hold(entries, ((record.key, record.value) for record in records))
            held.append(entries)
        return held

    def _fits(self, found: Move, before: int) -> None:
        """Where units lie says which partitioner their producers have."""
        if found.strange:
            some = ", ".join(sorted(found.strange)[:3])
            msg = (
                f"{len(found.strange)} units do not lie where {self._partitioner} puts them of {before} partitions"
                f" ({some}): their producers use another partitioner; `--partitioner` says which"
            )
            raise TopicProblem(msg)

    async def _write(self, producer: AIOKafkaProducer, messages: Mapping[int, Sequence[Message]]) -> None:
        for number, some in messages.items():
            for at in range(0, len(some), PIECE):
                piece = {(self._names.state, number): some[at : at + PIECE]}
                await asyncio.gather(*await send(producer, piece))

    @staticmethod
    async def _send(producer: AIOKafkaProducer, sent: Sequence[Sent]) -> None:
        for at in range(0, len(sent), PIECE):
            piece = sent[at : at + PIECE]
            futures = [
                await producer.send(
                    each.topic,
                    each.value,
                    each.key,
                    partition=each.partition,
                    timestamp_ms=each.timestamp if each.timestamp >= 0 else None,
                    headers=each.headers,
                )
                for each in piece
            ]
            await asyncio.gather(*futures)

    async def _consumer(self, stack: AsyncExitStack, isolation: str = "read_committed") -> AIOKafkaConsumer:
        consumer = reading.consumer(
            bootstrap_servers=self._servers,
            isolation_level=isolation,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        return consumer
