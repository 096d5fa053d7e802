"""A broker in memory and everything around one partition of the decision lane, so that commits can fail in every way."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiokafka import TopicPartition

from pointsman.models.agent import Agent
from pointsman.models.state import Limits
from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.summary import ArmSummary, Ledger, Summary
from pointsman.streams.decisions.duplicates import Answered, key, short
from pointsman.streams.decisions.turn import Turn
from pointsman.streams.decisions.validate import Validator
from pointsman.streams.decisions.work import DecisionWork, Surroundings
from pointsman.streams.errors import Fenced
from pointsman.streams.flags import Flags
from pointsman.streams.metrics import LaneMetrics
from pointsman.streams.output import Committed, Headers, Message, Output, Record
from pointsman.streams.partition import PartitionLoop
from pointsman.streams.settings import Settings
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.topics import Names
from tests.builders import AT_MS, SEED, Score, agent, flag, record, runtime

NAMES = Names()
TP = TopicPartition(NAMES.requests, 0)


class Broker:
    """Requests, what was committed, and the fate of the commits to come."""

    def __init__(self) -> None:
        self.requests: list[Record] = []
        self.position: int | None = None
        self.positions: dict[TopicPartition, int] = {}
        """Of the delay topics."""
        self.metadata = ""
        self.now_ms = AT_MS
        """Time of what is sent to a delay topic."""
        self.committed: dict[str, list[Message]] = {}
        self.transactions: list[Output] = []
        self.fates: deque[str] = deque()
        self.owner = 0
        self.committing = False

    def produce(self, value: bytes | None, key_: bytes | None, gap: int = 0, headers: Headers = ()) -> None:
        """Append a request; ``gap`` offsets before it hold transaction markers."""
        last = self.requests[-1].offset if self.requests else -1
        self.requests.append(record(value, key=key_, offset=last + 1 + gap, headers=headers))

    def apply(self, output: Output) -> None:
        self.transactions.append(output)
        for (topic, _), messages in output.messages.items():
            self.committed.setdefault(topic, []).extend(messages)
        if output.positions:
            self.position, self.metadata = output.positions.get(TP, self.position), output.metadata
            self.positions |= {tp: at for tp, at in output.positions.items() if tp != TP}

    def log(self, tp: TopicPartition) -> list[Record]:
        """What lies in a partition: requests, or what waits; markers of transactions lie between."""
        if tp == TP:
            return self.requests
        return [
            record(value, key=key_, offset=2 * n, topic=tp.topic, headers=headers, timestamp=self.now_ms)
            for n, (key_, value, headers) in enumerate(self.committed.get(tp.topic, []))
        ]

    def outcomes(self) -> list[Outcome]:
        return self._all(NAMES.outcomes, Outcome)

    def summaries(self) -> list[Summary]:
        return self._all(NAMES.summaries, Summary)

    def shadows(self) -> list[ShadowAnswer]:
        return self._all(NAMES.shadows, ShadowAnswer)

    def letters(self) -> list[Message]:
        return self.committed.get(NAMES.dead_letters, [])

    def ledgers(self) -> list[Ledger]:
        return [each.ledger for each in self.summaries() if each.ledger is not None]

    def arms(self) -> list[ArmSummary]:
        return [arm for each in self.summaries() for arm in each.arms]

    def _all(self, topic: str, type_: Any) -> list[Any]:
        return [
            msgspec.json.decode(value or b"", type=type_) for _, value, _ in self.committed.get(topic, [])
        ]


class FakeCommitter:
    """A committer as `Transactional` is seen from the loop; each commit takes the next fate.

    ``before``, ``after``: fails before, or after it was committed; ``hang``, ``hang after``: never answers;
    ``fenced``: another owner took over and did the same batch first.
    """

    def __init__(self, broker: Broker, inputs: tuple[TopicPartition, ...] = (TP,)) -> None:
        self._broker = broker
        self._inputs = inputs
        self._epoch = -1

    async def open(self) -> Committed:
        self._broker.owner += 1
        self._epoch = self._broker.owner
        if self._broker.fates and self._broker.fates[0] == "open":
            self._broker.fates.popleft()
            raise OSError("no broker")
        positions = {tp: self._broker.positions.get(tp) for tp in self._inputs}
        return Committed(positions | {TP: self._broker.position}, self._broker.metadata)

    async def begin(self) -> None:
        pass

    async def commit(self, output: Output) -> None:
        broker = self._broker
        if self._epoch != broker.owner:
            raise Fenced("another owner")
        broker.committing = True
        try:
            await self._commit(output)
        finally:
            broker.committing = False

    async def _commit(self, output: Output) -> None:
        broker = self._broker
        fate = broker.fates.popleft() if broker.fates and broker.fates[0] != "open" else "ok"
        if fate in ("ok", "after", "hang after"):
            broker.apply(output)
        if fate in ("before", "after"):
            raise OSError(fate)
        if fate.startswith("hang"):
            await asyncio.Event().wait()
        if fate == "fenced":
            broker.owner += 1
            raise Fenced("another owner")

    async def close(self) -> None:
        self._epoch = -1


class FakeSource:
    """The consumer: a position that `begin` moves, and a tap."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.flowing = False
        self.begun: list[int | None] = []
        self.next = 0
        self.others: dict[TopicPartition, int] = {}
        """Where each delay topic is read next, while it flows."""
        self.calls: list[str] = []

    async def begin(self, positions: dict[TopicPartition, int | None]) -> dict[TopicPartition, int]:
        self.begun.append(positions[TP])
        self.next = positions[TP] or 0
        self.flowing = True
        self.others = {tp: at or 0 for tp, at in positions.items() if tp != TP}
        return {TP: self.next, **self.others}

    def pause(self, tp: TopicPartition) -> None:
        if tp != TP:
            self.others.pop(tp, None)
            return
        self.calls.append("pause")
        self.flowing = False

    def resume(self, tp: TopicPartition) -> None:
        assert tp == TP, "what waits is too little to be paused here"
        self.calls.append("resume")
        self.flowing = True

    def fetch(self, count: int) -> list[Record]:
        if not self.flowing:
            return []
        found = list(itertools.islice((r for r in self._broker.requests if r.offset >= self.next), count))
        if found:
            self.next = found[-1].offset + 1
        return found

    def fetch_waiting(self) -> dict[TopicPartition, list[Record]]:
        """All that is new in the delay topics."""
        found = {tp: [r for r in self._broker.log(tp) if r.offset >= at] for tp, at in self.others.items()}
        self.others |= {tp: records[-1].offset + 1 for tp, records in found.items() if records}
        return found


class World:
    """One worker with one partition, and the broker that outlives it."""

    def __init__(
        self,
        *,
        agents: Iterable[Agent] = (agent(), agent("other")),
        scorer: Score | None = None,
        model: bool = True,
        deadline_s: float = 0.02,
        **settings: Any,
    ) -> None:
        self.broker = Broker()
        self.flags = Flags()
        self.scorer = scorer
        self.deadline_s = deadline_s
        self.settings = Settings(
            **{"summary_interval_ms": 1, "batch_records_max": 5, "retry_reasons": (), **settings}
        )
        self.agents = {each.name: each for each in agents}
        self.runtimes = {name: runtime(each, model=model) for name, each in self.agents.items()}
        self.observed: list[int] = []
        self.restores = 0
        self.restore_hook: Callable[[], Awaitable[None]] | None = None
        self.state_hook: Callable[[], Awaitable[None]] | None = None
        waiting = Names.of(self.settings).retries if self.settings.retry_reasons else ()
        self.inputs = (TP, *(TopicPartition(topic, 0) for topic in dict.fromkeys(waiting)))
        self.start()

    def start(self) -> None:
        """A new process: all that was in memory is gone."""
        self.source = FakeSource(self.broker)
        self.work = DecisionWork(TP, self.around(), lambda: self.loop.wake())  # noqa: PLW0108 - the loop comes later
        self.loop = PartitionLoop(
            number=0,
            partitions=self.inputs,
            source=self.source,
            work=self.work,
            committer=lambda: FakeCommitter(self.broker, self.inputs),
            metrics=LaneMetrics("test"),
            batch_records_max=self.settings.batch_records_max,
            interval_s=lambda: 0.0,
            deadline_s=self.deadline_s,
            delays_s={
                topic: delay_ms / 1000
                for topic, delay_ms in zip(
                    Names.of(self.settings).retries, self.settings.retry_delays_ms, strict=True
                )
            },
        )
        self.task: asyncio.Task[None] | None = None

    def around(self) -> Surroundings:
        return Surroundings(
            names=Names.of(self.settings),
            runtimes=self.runtimes,
            validator=Validator(self.agents, self.settings.request_bytes_max),
            flags=self.flags,
            scorer=self.scorer,
            settings=self.settings,
            partitions={NAMES.dead_letters: 1, NAMES.summaries: 1},
            restore=self.restore,
            answered_max=lambda: self.settings.duplicate_ids_max,
            turn=Turn(),
            observe=lambda arm: self.observed.append(arm.decisions),
            state=lambda _: PartitionState(self.agents, Limits()),
            restore_state=self.restore_state,
        )

    async def restore_state(self, partition: int, state: PartitionState) -> None:
        """No agent here keeps any."""
        assert state.units == {}, partition
        if self.state_hook is not None:
            await self.state_hook()

    async def restore(self, partition: int, answered: Answered) -> None:
        assert partition == 0
        self.restores += 1
        if self.restore_hook is not None:
            await self.restore_hook()
        answered.keep(
            {key(o.decision_id): short(int(o.content_hash, 16)) for o in self.broker.outcomes()}, 1.0
        )

    def flag(self, percentage: float, version: int, agent_name: str = "small", seed: str = SEED) -> None:
        self.flags.apply(flag(percentage, version, agent_name, seed))

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> None:
        if self.task is None:
            self.task = asyncio.create_task(self.loop.run())

    async def pump(self, turns: int = 10, count: int = 3) -> None:
        """Let the loop go on for some turns, handing over what it lets flow."""
        for _ in range(turns):
            if self.loop.ready.is_set() and (fetched := self.source.fetch(count)):
                self.loop.offer(TP, fetched)
            if self.loop.ready.is_set():
                for tp, records in self.source.fetch_waiting().items():
                    self.loop.offer(tp, records)
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Pump until something holds; fails after some seconds."""
        deadline = asyncio.get_running_loop().time() + 10
        while not condition():
            assert self.task is None or not self.task.done(), self.task
            assert asyncio.get_running_loop().time() < deadline, f"never: {what}"
            await self.pump()
            await asyncio.sleep(0.001)

    async def caught_up(self) -> None:
        self.run()
        end = self.broker.requests[-1].offset + 1 if self.broker.requests else None
        await self.until(lambda: self.broker.position == end, f"position {end}, not {self.broker.position}")

    def waiting(self) -> int:
        """Records of delay topics that are not worked on yet."""
        return sum(
            each.offset >= self.broker.positions.get(tp, 0)
            for tp in self.inputs[1:]
            for each in self.broker.log(tp)
        )

    async def settled(self) -> None:
        """Everything is read, and nothing waits."""
        await self.caught_up()
        await self.until(lambda: not self.waiting(), "nothing that waits")

    async def stop(self) -> None:
        """A polite stop: it must end by itself."""
        self.run()
        assert self.task is not None
        self.loop.stop()
        await asyncio.wait_for(self.task, 10)

    async def crash(self) -> None:
        """The process dies where it stands; what was being committed was committed or not."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        self.start()
