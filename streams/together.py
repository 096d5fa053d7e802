"""`Together`: batches of several partitions in one transaction, so that a worker with many of them needs few.

A transaction takes five round trips and a marker in each partition that it wrote, whatever is in it. One for each
partition's batch keeps client and broker busy with hundreds of them a second. Here a batch joins the transaction that
gathers; a few producers take turns, so that one gathers while the others' are on their way.

What belongs to whom is the group's affair ([membership](membership.py)), so a transaction may hold whatever its member
owns. Where one fails its batches begin anew, like those of a single one; a partition that fails again has one of its
own, until it succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ProducerFenced

from pointsman.streams.commit import Committer, Transactional, stable
from pointsman.streams.errors import Fenced
from pointsman.streams.fence import fence
from pointsman.streams.membership import Member
from pointsman.streams.output import Committed, Output
from pointsman.streams.producer import Producer
from pointsman.streams.settings import Settings
from pointsman.streams.transactions import unasked

logger = logging.getLogger(__name__)

PRODUCERS: Final = 2
"""That take turns: with one, the next transaction cannot gather while the broker ends the one before."""
GATHER_S: Final = 0.012
"""A transaction waits so long for batches that are under way when the first one is done."""
OUTPUTS_MAX: Final = 16
"""Batches in a transaction at most: it must be sent within its deadline."""
ALONE_AFTER: Final = 2
"""Failures one after the other, after which a partition has a transaction of its own."""
AGAIN_S: Final = 0.1
"""Before a producer that failed is replaced; twice as long each time that this fails."""
AGAIN_MAX_S: Final = 5.0
FENCED_S: Final = 1.0
"""The same for one that was fenced: the other may be the rightful one, and a heartbeat says so first."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One batch's output, and the future that says that it is committed."""

    number: int
    output: Output
    done: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Joint:
    """A transaction: whose batches are under way to it, and what has been handed in."""

    producer: Producer
    expected: set[int] = field(default_factory=set)
    entries: list[_Entry] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody is expected any more, or it is full."""
    task: asyncio.Task[None] | None = None
    """Gathers, then commits."""
    broken: bool = False
    """Given up while it gathered; its entries are elsewhere."""

    def look(self) -> None:
        """Whether it can go."""
        if not self.expected or len(self.entries) >= OUTPUTS_MAX:
            self.complete.set()


class Together:
    """The transactions of one assignment: of one member of the group, in one generation."""

    def __init__(
        self,
        *,
        servers: str,
        group: str,
        prefix: str,
        settings: Settings,
        admin: Callable[[], AIOKafkaAdminClient],
        member: Member,
        numbers: Sequence[int],
    ) -> None:
        """``prefix``: of the transactional ids; ``numbers``: of the partitions that are assigned, at least one."""
        self.group = group
        self.admin = admin
        self._servers = servers
        self._prefix = prefix
        self._settings = settings
        self._member = member
        shared = [f"{prefix}-together-{number}" for number in sorted(numbers)]
        self._ids, rest = shared[:PRODUCERS], shared[PRODUCERS:]
        # Whoever had one of these partitions before may have left a transaction open under any of these. Its offsets
        # are refused anyhow, but until it ends consumers of the outcomes see nothing behind it.
        self._left = [*rest, *(f"{prefix}-{number}" for number in numbers)]
        self._producers: dict[Producer, str] = {}
        self._free: deque[Producer] = deque()
        self._gathering: _Joint | None = None
        self._under_way: dict[_Entry, _Joint] = {}
        """Where each entry is, once it is no longer waiting for a producer."""
        self._waiting: deque[_Entry] = deque()
        self._failures: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._ended = False

    def committer(self, number: int, partitions: tuple[TopicPartition, ...]) -> Committer:
        """That of one partition number's loop."""
        return _Shared(self, number, partitions)

    # -- the producers ---------------------------------------------------------------------------

    async def ready(self) -> None:
        """Start the producers and end what others left open, once for all loops. Raises KafkaError."""
        if self._starting is None or (self._starting.done() and self._starting.exception()):
            self._starting = self._spawn(self._start())
            unasked(self._starting)  # who asked may have been cancelled
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        made = [self._made(each) for each in self._ids]
        try:
            results = await asyncio.gather(*(each.start() for each in made), return_exceptions=True)
            for failed in filter(None, results):
                raise failed
            await fence(made[0].client.client, self._left, self._settings.transaction_deadline_ms * 2)
        except BaseException:
            await asyncio.gather(*map(self._close, made))
            raise
        self._free.extend(made)
        self._load()

    def _made(self, id_: str) -> Producer:
        producer = Producer(
            servers=self._servers,
            group=self.group,
            transactional_id=id_,
            settings=self._settings,
            member=self._member,
        )
        self._producers[producer] = id_
        return producer

    async def _close(self, producer: Producer) -> None:
        await producer.close()
        self._producers.pop(producer, None)

    async def _replace(self, failed: Producer, error: BaseException) -> None:
        """Another producer with the id of one that failed, which ends what that one left open."""
        id_ = self._producers[failed]
        await self._close(failed)
        wait = FENCED_S if isinstance(error, Fenced | ProducerFenced) else AGAIN_S
        while True:
            await asyncio.sleep(wait)
            producer = self._made(id_)
            try:
                async with asyncio.timeout(self._settings.transaction_deadline_ms / 1000):
                    await producer.start()
            except Exception as again:  # noqa: BLE001 - whatever it is, the loops say it: their batches wait
                logger.debug("a producer does not start: %r", again)
                await self._close(producer)
                wait = min(2 * wait, AGAIN_MAX_S)
            else:
                self._free.append(producer)
                self._load()
                return

    def alone(self, number: int, partitions: tuple[TopicPartition, ...]) -> Transactional | None:
        """A committer of its own for a partition that has failed again and again."""
        if self._failures[number] < ALONE_AFTER:
            return None
        return Transactional(
            servers=self._servers,
            group=self.group,
            transactional_id=f"{self._prefix}-{number}",
            partitions=partitions,
            settings=self._settings,
            admin=self.admin,
            member=self._member,
        )

    def succeeded(self, number: int) -> None:
        """It may share a transaction again."""
        self._failures.pop(number, None)

    # -- transactions ----------------------------------------------------------------------------

    def expect(self, number: int, written: Sequence[TopicPartition]) -> None:
        """A batch is under way; ``written``: where its output will probably go."""
        joint = self._gathering or self._open()
        if joint is None:
            return
        try:
            joint.producer.announce(written)
        except Exception as error:  # noqa: BLE001 - it failed before anything was sent: nobody's batch is lost
            self._break(joint, error)
        else:
            joint.expected.add(number)

    def leave(self, number: int) -> None:
        """No batch comes of it after all."""
        joint = self._gathering
        if joint is None or number not in joint.expected:
            return
        joint.expected.discard(number)
        joint.look()
        if joint.task is None and not joint.expected:  # begun for nothing; left open it would time out
            joint.task = self._spawn(self._carry(joint))

    async def commit(self, number: int, output: Output) -> None:
        """Wait until it is committed, with whatever else. Raises what has failed the transaction."""
        entry = _Entry(number, output, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._load()
        try:
            await entry.done
        except asyncio.CancelledError:
            self._withdraw(entry)
            raise

    def _open(self) -> _Joint | None:
        while self._free:
            producer = self._free.popleft()
            try:
                producer.announce(())
            except Exception as error:  # noqa: BLE001 - it died while it had nothing to do
                self._spawn(self._replace(producer, error))
                continue
            self._gathering = _Joint(producer)
            return self._gathering
        return None

    def _load(self) -> None:
        """Put what waits into the transaction that gathers, and begin one where none does."""
        while self._waiting and (joint := self._gathering or self._open()):
            entry = self._waiting.popleft()
            joint.entries.append(entry)
            joint.expected.discard(entry.number)
            self._under_way[entry] = joint
            joint.look()
            if joint.task is None:
                joint.task = self._spawn(self._carry(joint))
            if len(joint.entries) >= OUTPUTS_MAX:
                self._gathering = None

    async def _carry(self, joint: _Joint) -> None:
        """Gather for a while, then commit; then the producer is free for another transaction."""
        try:
            await self._gathered(joint)
            async with asyncio.timeout(self._settings.transaction_deadline_ms / 1000):
                await joint.producer.commit([entry.output for entry in joint.entries])
        except asyncio.CancelledError:
            self._failed(
                joint, TimeoutError("another partition's batch in the same transaction was given up")
            )
        except Exception as error:  # noqa: BLE001 - each loop is told, and begins anew
            self._failed(joint, error)
        else:
            for entry in joint.entries:
                del self._under_way[entry]
                self.succeeded(entry.number)
                if not entry.done.done():
                    entry.done.set_result(None)
            self._free.append(joint.producer)
            self._load()

    async def _gathered(self, joint: _Joint) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await joint.complete.wait()
        if self._gathering is joint:
            self._gathering = None

    def _failed(self, joint: _Joint, error: Exception) -> None:
        if joint.broken:
            return
        for entry in joint.entries:
            del self._under_way[entry]
            self._failures[entry.number] += 1
            if not entry.done.done():
                entry.done.set_exception(error)
        if not self._ended:
            self._spawn(self._replace(joint.producer, error))

    def _break(self, joint: _Joint, error: Exception) -> None:
        """One that gathers and cannot be committed any more: what was handed in goes into another."""
        self._gathering, joint.broken = None, True
        if joint.task is not None:
            joint.task.cancel()
        for entry in joint.entries:
            del self._under_way[entry]
        self._waiting.extendleft(reversed(joint.entries))
        joint.entries = []
        self._spawn(self._replace(joint.producer, error))
        self._load()

    def _withdraw(self, entry: _Entry) -> None:
        """Nobody waits for it any more, and its partition will be read again: it must not be committed afterwards."""
        joint = self._under_way.get(entry)
        if joint is None:
            with contextlib.suppress(ValueError):
                self._waiting.remove(entry)
        elif joint is self._gathering:
            del self._under_way[entry]
            joint.entries.remove(entry)
        elif joint.task is not None:
            joint.task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Close everything; the loops have ended. Never raises."""
        self._ended = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*map(self._close, list(self._producers)))


class _Shared:
    """A loop's committer: in the transactions of all, or in one of its own while it is in trouble."""

    def __init__(self, together: Together, number: int, partitions: tuple[TopicPartition, ...]) -> None:
        self._together = together
        self._number = number
        self._partitions = partitions
        self._written: list[TopicPartition] = []
        self._own: Transactional | None = None

    async def open(self) -> Committed:
        """Fence whoever had the partition before, then read the offsets."""
        together = self._together
        await together.ready()
        self._own = together.alone(self._number, self._partitions)
        if self._own is not None:
            return await self._own.open()
        return await stable(together.admin(), together.group, self._partitions)

    async def begin(self) -> None:
        """Say where the last output went, while this batch is worked on."""
        if self._own is not None:
            await self._own.begin()
        else:
            self._together.expect(self._number, self._written)

    async def commit(self, output: Output) -> None:
        """In one transaction. Raises `Fenced` if the group has gone on without this worker."""
        if self._own is not None:
            await self._own.commit(output)
            self._together.succeeded(self._number)
            own, self._own = self._own, None
            await own.close()
            return
        self._written = [TopicPartition(*where) for where in output.messages]
        await self._together.commit(self._number, output)

    async def close(self) -> None:
        """What is not handed in does not come."""
        self._together.leave(self._number)
        if self._own is not None:
            await self._own.close()
