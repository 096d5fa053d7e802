"""`Together`: batches of several partitions in one transaction, so that a worker with many of them needs few.

A transaction takes five round trips and a marker in each partition that it wrote, whatever is in it. One for each
partition's batch keeps client and broker busy with hundreds of them a second. Here a batch joins the transaction that
gathers; a few producers take turns, so that one gathers while the others' are on their way.

What belongs to whom is the group's affair (`membership`), so a transaction may hold whatever its member owns. Where one
fails its batches begin anew, like those of a single one; a partition that fails again has one of its own, until it
succeeds.
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

from pointsman.streams.errors import Expelled
from pointsman.streams.fence import fence
from pointsman.streams.membership import Member
from pointsman.streams.output import Output
from pointsman.streams.producer import Producer
from pointsman.streams.producers import Producers
from pointsman.streams.settings import Settings

logger = logging.getLogger(__name__)

PRODUCERS: Final = 4
"""In all. Fewer where a worker owns fewer partitions."""
TURNS: Final = 2
"""Of them, those that take turns with small batches: with one, the next transaction cannot gather while the broker ends
the one before; with more, each holds fewer batches. A large batch is enough for a transaction, and waits for no turn."""
GATHER_S: Final = 0.012
"""A transaction waits so long for batches that are under way when the first one is done."""
OUTPUTS_MAX: Final = 16
"""Batches in a transaction at most: it must be sent within its deadline."""
MESSAGES_ENOUGH: Final = 1_000
"""A transaction with so many does not wait for more: what it costs is little beside them."""
ALONE_AFTER: Final = 2
"""Failures one after the other, after which a partition has a transaction of its own."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One batch's output, and the future that says that it is committed."""

    number: int
    output: Output
    messages: int
    done: asyncio.Future[None]
    waits: asyncio.Timeout
    """While it waits for a transaction; that has a time of its own."""


@dataclass(slots=True, eq=False)
class _Joint:
    """A transaction: whose batches are under way to it, and what has been handed in."""

    producer: Producer
    expected: set[int] = field(default_factory=set)
    entries: list[_Entry] = field(default_factory=list)
    """Handed in so far."""
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody is expected any more, or there is enough in it."""
    task: asyncio.Task[None] | None = None
    """Gathers, then commits."""
    broken: bool = False
    """Given up while it gathered; its entries are elsewhere."""

    def look(self) -> None:
        """Whether it can go."""
        if not self.expected or self.full or self.large:
            self.complete.set()

    def add(self, entry: _Entry) -> None:
        """One more batch, which was perhaps expected."""
        self.entries.append(entry)
        self.expected.discard(entry.number)
        self.look()

    @property
    def large(self) -> bool:
        """Whether it is worth a transaction by itself."""
        return sum(entry.messages for entry in self.entries) >= MESSAGES_ENOUGH

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return len(self.entries) >= OUTPUTS_MAX


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
        self.deadline_s = settings.transaction_deadline_ms / 1000
        # Whoever owns a partition next ends what was left open under its ids, so only those of its own are used.
        ids = [self._shared_id(number) for number in sorted(numbers)]
        self._producers = Producers(ids, self._producer, self._load, self._refuse, self.deadline_s)
        self._gathering: _Joint | None = None
        self._open: set[_Joint] = set()
        """All that are not over."""
        self._under_way: dict[_Entry, _Joint] = {}
        """Where each entry is, once it is no longer waiting for a producer."""
        self._waiting: deque[_Entry] = deque()
        self._failures: Counter[int] = Counter()
        self._expelled: Expelled | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    # -- the producers ---------------------------------------------------------------------------

    async def ready(self) -> None:
        """Start the producers, once for all loops; it goes on by itself where none starts. Raises `Expelled`."""
        self._check()
        if self._starting is None:
            self._starting = self._spawn(self._start())
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        for id_, error in await self._producers.start(PRODUCERS):
            logger.warning("a producer does not start", extra={"id": id_, "error": repr(error)})
            self._spawn(self._producers.again(id_, lambda: self._expelled is None))

    def expel(self, error: Expelled) -> None:
        """The group has gone on: nothing more is committed, and nobody fenced, before the next assignment."""
        self._expelled = Expelled(*error.args)  # without its traceback, which holds outputs
        self._refuse(Expelled(*error.args))

    def _check(self) -> None:
        if self._expelled is not None:
            raise Expelled(*self._expelled.args)

    async def fence(self, number: int) -> None:
        """End what a former owner of this partition left open. Its offsets would be refused anyhow, but until it ends
        consumers of the outcomes see nothing behind it.
        """
        ids = {f"{self._prefix}-{number}", self._shared_id(number)} - self._producers.ever
        await fence(self.admin()._client, sorted(ids), self._settings.transaction_deadline_ms * 2)  # noqa: SLF001

    def _shared_id(self, number: int) -> str:
        return f"{self._prefix}-together-{number}"

    def own_producer(self, number: int) -> Producer:
        """That of a partition which has transactions of its own."""
        return self._producer(f"{self._prefix}-{number}")

    def _producer(self, id_: str) -> Producer:
        return Producer(
            servers=self._servers,
            group=self.group,
            transactional_id=id_,
            settings=self._settings,
            member=self._member,
        )

    def _lose(self, producer: Producer, error: BaseException) -> None:
        """A producer has failed: another one takes its place, but where nothing can be committed any more."""
        if isinstance(error, Expelled):
            self.expel(error)
        self._spawn(self._producers.replace(producer, error, lambda: self._expelled is None))

    def _refuse(self, error: Exception) -> None:
        """Those that wait for a producer, of which none will come, are told why and begin anew."""
        for entry in self._waiting:
            if not entry.done.done():
                entry.done.set_exception(error)
        self._waiting.clear()

    def alone(self, number: int) -> bool:
        """Whether a partition needs transactions of its own: it has failed again and again, or no producer is left."""
        return self._failures[number] >= ALONE_AFTER or not self._producers.alive

    def succeeded(self, number: int) -> bool:
        """It is in order again; whether it may share transactions now."""
        self._failures.pop(number, None)
        return self._producers.alive > 0

    # -- transactions ----------------------------------------------------------------------------

    def expect(self, number: int, written: Sequence[TopicPartition]) -> None:
        """A batch is under way; ``written``: where its output will probably go."""
        joint = self._gathering or self._begin()
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
            self._send_off(joint)

    async def commit(self, number: int, output: Output) -> None:
        """Wait until it is committed, with whatever else. Raises what has failed the transaction."""
        self._check()
        async with asyncio.timeout(self.deadline_s) as waits:
            messages = sum(map(len, output.messages.values()))
            entry = _Entry(number, output, messages, asyncio.get_running_loop().create_future(), waits)
            self._waiting.append(entry)
            self._load()
            try:
                await entry.done
            except asyncio.CancelledError:
                self._withdraw(entry)
                raise

    def _begin(self) -> _Joint | None:
        """One that gathers, if a producer is free and it is its turn."""
        small = sum(not each.large for each in self._open)
        if small >= TURNS and not any(each.messages >= MESSAGES_ENOUGH for each in self._waiting):
            return None
        while self._producers.free:
            producer = self._producers.free.popleft()
            try:
                producer.announce(())
            except Exception as error:  # noqa: BLE001 - it died while it had nothing to do
                logger.warning("an idle producer has died", extra={"error": repr(error)})
                self._lose(producer, error)
                continue
            self._gathering = _Joint(producer)
            self._open.add(self._gathering)
            return self._gathering
        return None

    def _load(self) -> None:
        """Put what waits into the transaction that gathers, and begin one where none does."""
        while self._waiting:
            if self._waiting[0].done.done():  # nobody waits for it any more, which has not been said yet
                self._waiting.popleft()
                continue
            if (joint := self._gathering or self._begin()) is None:
                return
            entry = self._waiting.popleft()
            joint.add(entry)
            self._under_way[entry] = joint
            if joint.task is None:
                self._send_off(joint)
            if joint.full:
                self._gathering = None

    def _send_off(self, joint: _Joint) -> None:
        joint.task = self._spawn(self._carry(joint))
        # Not within the task: one that is cancelled before its first step never runs.
        joint.task.add_done_callback(lambda task: self._settle(joint, task))

    async def _carry(self, joint: _Joint) -> None:
        """Gather for a while, then commit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await joint.complete.wait()
        if self._gathering is joint:
            self._gathering = None
        for entry in joint.entries:  # whoever waited longest must not end what holds the others' batches too
            if not entry.done.done():
                entry.waits.reschedule(None)
        async with asyncio.timeout(self.deadline_s):
            await joint.producer.commit([entry.output for entry in joint.entries])

    def _settle(self, joint: _Joint, task: asyncio.Task[None]) -> None:
        """Tell each loop what became of its batch; then the producer is free, or replaced."""
        if joint.broken:
            return
        self._open.discard(joint)
        if self._gathering is joint:
            self._gathering = None
        error: BaseException | None
        if task.cancelled():
            error = TimeoutError("another partition's batch in the same transaction was given up")
        else:
            error = task.exception()
        for entry in joint.entries:
            del self._under_way[entry]
            if error is None:
                self._failures.pop(entry.number, None)
            else:
                self._failures[entry.number] += 1
            if not entry.done.done():
                entry.done.set_result(None) if error is None else entry.done.set_exception(error)
        if error is not None:
            self._lose(joint.producer, error)
        else:
            self._producers.free.append(joint.producer)
        if self._expelled is None:  # its turn is free, be it with another producer
            self._load()

    def _break(self, joint: _Joint, error: Exception) -> None:
        """One that gathers and cannot be committed any more: what was handed in goes into another."""
        logger.warning("a transaction failed before anything was sent", extra={"error": repr(error)})
        self._gathering, joint.broken = None, True
        self._open.discard(joint)
        if joint.task is not None:
            joint.task.cancel()
        for entry in joint.entries:
            del self._under_way[entry]
        self._waiting.extendleft(reversed(joint.entries))
        self._lose(joint.producer, error)
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

    # -- the end ---------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self) -> None:
        """Close everything; the loops have ended. Never raises; who is cancelled meanwhile leaves nothing half done."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        self._expelled = self._expelled or Expelled("the assignment has ended")
        while tasks := set(self._tasks):
            for task in tasks:
                task.cancel()
            # Both at once: a silent broker costs either some seconds, and a rebalance waits.
            await asyncio.gather(self._producers.end(), *tasks, return_exceptions=True)
            await asyncio.sleep(0)  # what a task's end brings about comes a step later
        await self._producers.end()
