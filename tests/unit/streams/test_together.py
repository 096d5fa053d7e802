"""Transactions that partitions share: who is in which, and that each loop is told what became of its batch."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pointsman.streams import producers
from pointsman.streams import together as module
from pointsman.streams.commit import Transactional
from pointsman.streams.errors import Expelled, Fenced
from pointsman.streams.membership import Member
from pointsman.streams.output import Committed, Output
from pointsman.streams.settings import Settings
from pointsman.streams.together import GATHER_S, OUTPUTS_MAX, Together

LONG_S = 30.0


class World:
    """Producers as `Together` sees them; each transaction takes the next fate.

    ``before``, ``after``: fails before, or after it was committed; ``hang``, ``hang after``: never answers; ``fenced``.
    """

    def __init__(self) -> None:
        self.fates: list[str] = []
        self.steps = 3
        self.committed: list[list[str]] = []
        """What each transaction held, by the outputs' metadata."""
        self.made: list[FakeProducer] = []
        self.starts_fail = 0
        self.start_gate: asyncio.Event | None = None
        self.order: list[str] = []
        """Producers started, ids fenced, offsets read."""
        self.gate: asyncio.Event | None = None
        """Where set, a transaction waits for it."""

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.made]

    def open(self) -> list[str]:
        return sorted(each.id for each in self.made if not each.closed)


class FakeProducer:
    world: World

    def __init__(self, *, transactional_id: str, member: Member, **_options: Any) -> None:
        assert member == Member("m", 7)
        self.id = transactional_id
        self.world.made.append(self)
        self.client: Any = self
        self.begun = self.closed = False
        self.announced: list[TopicPartition] = []
        self.broken: Exception | None = None

    async def start(self) -> None:
        await turns(2)
        if self.world.start_gate is not None:
            await self.world.start_gate.wait()
        if self.world.starts_fail:
            self.world.starts_fail -= 1
            raise KafkaError("no broker")
        self.world.order.append(f"start {self.id}")

    def announce(self, partitions: Iterable[TopicPartition]) -> None:
        if self.broken is not None:
            raise self.broken
        self.begun = True
        self.announced.extend(partitions)

    async def commit(self, outputs: Sequence[Output]) -> None:
        world = self.world
        assert not self.closed, "a producer that was closed is not used"
        fate = world.fates.pop(0) if world.fates else "ok"
        for _ in range(world.steps):
            await asyncio.sleep(0)
        if world.gate is not None:
            await world.gate.wait()
        if fate == "fenced":
            raise Fenced("another owner")
        if fate == "expelled":
            raise Expelled("the group has gone on")
        if fate in ("ok", "after", "hang after"):
            world.committed.append([output.metadata for output in outputs])
        if fate in ("before", "after"):
            raise KafkaError(fate)
        if fate.startswith("hang"):
            await asyncio.Event().wait()
        self.begun, self.announced = False, []

    async def close(self) -> None:
        try:
            await turns(2)
        finally:
            self.closed = True  # a close goes on where its caller is cancelled


class Admin:
    _client = None


def sound(together: Together) -> bool:
    """Nothing is left of what was under way, and its producers are there again."""
    return (
        not together._under_way
        and not together._waiting
        and together._producers.alive == len(together._producers.free) + (together._gathering is not None)
        and set(together._producers._open.values()) == together._producers.in_use
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    FakeProducer.world = made

    async def fence(_client: Any, ids: Iterable[str], timeout_ms: int) -> None:
        assert timeout_ms == 2 * Settings().transaction_deadline_ms
        await turns(3)
        made.order.extend(f"fence {each}" for each in ids)

    async def stable(_admin: Any, _group: str, partitions: Sequence[TopicPartition]) -> Committed:
        made.order.append("read")
        return Committed(dict.fromkeys(partitions, 5))

    monkeypatch.setattr(module, "Producer", FakeProducer)
    monkeypatch.setattr(module, "fence", fence)
    monkeypatch.setattr(module, "stable", stable)
    monkeypatch.setattr(producers, "AGAIN_S", 0.0)
    return made


def shared(numbers: Sequence[int] = (0, 1, 2, 3)) -> Together:
    return Together(
        servers="127.0.0.1:1",
        group="g",
        prefix="g-t",
        settings=Settings(),
        admin=Admin,  # type: ignore[arg-type]
        member=Member("m", 7),
        numbers=numbers,
    )


@pytest.fixture
async def together(world: World) -> AsyncIterator[Together]:
    made = shared()
    await made.ready()
    yield made
    await turns()
    assert sound(made)
    await made.end()
    assert made._tasks == set()


def output(text: str, topic: str = "out") -> Output:
    made = Output(metadata=text)
    made.add(topic, 0, [(None, b"", [])])
    return made


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_batches_under_way_together_are_committed_together(world: World, together: Together) -> None:
    for number in (0, 1, 2):
        together.expect(number, [])
    first = [asyncio.create_task(together.commit(number, output(str(number)))) for number in (0, 1)]
    await turns()
    assert world.committed == [], "the third is under way"
    await together.commit(2, output("2"))
    await asyncio.gather(*first)
    assert world.committed == [["0", "1", "2"]]


async def test_nobody_waits_longer_than_a_moment_for_the_others(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)
    together.expect(0, [])
    together.expect(1, [])
    await together.commit(0, output("0"))
    await together.commit(1, output("1"))
    assert world.committed == [["0"], ["1"]]
    assert Settings().commit_interval_ms / 1000 > GATHER_S


async def test_one_that_nobody_else_is_expected_in_goes_at_once(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", LONG_S)
    together.expect(0, [])
    await asyncio.wait_for(together.commit(0, output("0")), 5)
    await asyncio.wait_for(together.commit(1, output("unannounced")), 5)
    together.expect(0, [])
    together.expect(1, [])
    committing = asyncio.create_task(together.commit(0, output("1")))
    await turns()
    together.leave(1)  # its batch failed
    await asyncio.wait_for(committing, 5)
    assert world.committed == [["0"], ["unannounced"], ["1"]]


async def test_while_one_is_on_its_way_another_gathers_and_the_rest_waits(
    world: World, together: Together
) -> None:
    world.gate = asyncio.Event()
    tasks = []
    for text in ("a", "b", "c", "d"):
        tasks.append(asyncio.create_task(together.commit(len(tasks), output(text))))
        await turns()
    assert world.committed == []
    assert sum(producer.begun for producer in world.made) == 2
    world.gate.set()
    await asyncio.gather(*tasks)
    assert world.committed == [["a"], ["b"], ["c", "d"]]


async def test_a_transaction_is_bounded(world: World) -> None:
    numbers = range(2 * OUTPUTS_MAX + 1)
    together = shared(numbers)
    await together.ready()
    for number in numbers:
        together.expect(number, [])
    await asyncio.gather(*(together.commit(number, output(str(number))) for number in numbers))
    assert sorted(map(len, world.committed)) == [1, OUTPUTS_MAX, OUTPUTS_MAX]
    await together.end()


async def test_the_coordinator_is_told_ahead_what_the_last_output_wrote(
    world: World, together: Together
) -> None:
    committer = together.committer(0, (TopicPartition("t", 0),))
    assert (await committer.open()).positions == {TopicPartition("t", 0): 5}
    await committer.begin()
    await committer.commit(output("0", "elsewhere"))
    await committer.begin()
    assert [each.announced for each in world.made if each.begun] == [[TopicPartition("elsewhere", 0)]]
    await committer.close()


async def test_one_that_was_begun_for_nothing_is_ended_and_not_left_to_time_out(
    world: World, together: Together
) -> None:
    together.expect(0, [])
    together.expect(1, [])
    together.leave(0)
    assert any(producer.begun for producer in world.made)
    together.leave(1)
    await turns()
    assert not any(producer.begun for producer in world.made)
    assert world.committed == [[]]


@pytest.mark.parametrize("fate", ["before", "after", "fenced"])
async def test_all_in_a_transaction_that_failed_are_told_and_the_others_go_on(
    world: World, together: Together, fate: str
) -> None:
    world.fates = [fate]
    together.expect(0, [])
    together.expect(1, [])
    told = await asyncio.gather(
        *(together.commit(number, output(str(number))) for number in (0, 1)), return_exceptions=True
    )
    assert [type(each) for each in told] == [Fenced if fate == "fenced" else KafkaError] * 2
    await together.commit(2, output("2"))
    assert world.committed[-1] == ["2"]


async def test_a_producer_that_failed_is_closed_and_another_of_its_id_takes_its_place(
    world: World, together: Together
) -> None:
    world.fates = ["before"]
    with pytest.raises(KafkaError):
        await together.commit(0, output("0"))
    world.starts_fail = 2
    async with asyncio.timeout(10):
        while together._producers.alive < 2 or not world.made[0].closed:
            await asyncio.sleep(0.001)
    # First with the same id, which ends what was left open; where that one is stuck, with others of its partitions.
    assert world.ids == [f"g-t-together-{number}" for number in (0, 1, 0, 2, 3)]
    assert world.open() == ["g-t-together-1", "g-t-together-3"]
    await together.commit(0, output("0"))


async def test_one_that_was_fenced_comes_back_after_a_heartbeat_only(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(producers.asyncio, "sleep", noted)
    world.fates = ["fenced"]
    with pytest.raises(Fenced):
        await together.commit(0, output("0"))
    for _ in range(20):
        await sleep(0)
    assert waited == [producers.FENCED_S]


async def test_one_that_died_while_it_gathered_loses_nothing(world: World, together: Together) -> None:
    together.expect(0, [])
    together.expect(1, [])
    committing = asyncio.create_task(together.commit(0, output("0")))
    await turns(1)
    gathering = next(each for each in world.made if each.begun)
    gathering.broken = KafkaError("fenced meanwhile")
    together.expect(2, [])
    await asyncio.wait_for(committing, 5)
    assert world.committed == [["0"]]
    assert gathering.closed


async def test_one_that_died_while_it_was_idle_is_passed_over(world: World, together: Together) -> None:
    world.made[0].broken = KafkaError("expired")
    together.expect(0, [])
    await asyncio.wait_for(together.commit(0, output("0")), 5)
    await turns()
    assert world.committed == [["0"]]
    assert world.made[0].closed


async def test_what_nobody_waits_for_any_more_is_not_committed_afterwards(
    world: World, together: Together
) -> None:
    """Its partition is read again, from before it."""
    world.gate = asyncio.Event()
    on_its_way = [asyncio.create_task(together.commit(number, output("way"))) for number in (0, 1)]
    await turns()
    waits = asyncio.create_task(together.commit(2, output("gathers")))
    await turns()
    for task in (waits, on_its_way[0]):
        task.cancel()
    told = await asyncio.gather(waits, *on_its_way, return_exceptions=True)
    assert [type(each) for each in told] == [asyncio.CancelledError, asyncio.CancelledError, TimeoutError]
    world.gate.set()
    await turns()
    assert world.committed == []
    await together.commit(3, output("3"))
    assert world.committed == [["3"]]


async def test_one_that_gathers_goes_without_what_was_withdrawn(world: World, together: Together) -> None:
    for number in (0, 1, 2):
        together.expect(number, [])
    tasks = [asyncio.create_task(together.commit(number, output(str(number)))) for number in (0, 1)]
    await turns()
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    await together.commit(2, output("2"))
    await tasks[1]
    assert world.committed == [["1", "2"]]


async def test_a_partition_that_fails_again_has_transactions_of_its_own_until_it_succeeds(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: list[str] = []

    class Alone:
        def __init__(self, *, transactional_id: str, member: Member, **_options: Any) -> None:
            assert member == Member("m", 7)
            self._id = transactional_id
            self.fails = not own

        async def open(self) -> Committed:
            return Committed({})

        async def begin(self) -> None:
            own.append("begin")

        async def commit(self, _output: Output) -> None:
            own.append(self._id)
            if self.fails:
                raise KafkaError("again")

        async def close(self) -> None:
            own.append("close")

    monkeypatch.setattr(module, "Transactional", Alone)
    world.fates = ["before", "before"]
    for _ in range(3):
        committer = together.committer(3, ())
        await committer.open()
        await committer.begin()
        with pytest.raises(KafkaError):
            await committer.commit(output("x"))
        await committer.close()
    assert (world.committed, own) == ([], ["begin", "g-t-3", "close"])
    committer = together.committer(3, ())
    await committer.open()
    await committer.begin()
    await committer.commit(output("y"))
    assert own[3:] == ["begin", "g-t-3", "close"]
    await committer.commit(output("z"))
    assert world.committed == [["z"]]
    await committer.close()


async def test_whatever_was_left_open_of_a_partition_is_ended_before_it_is_read(world: World) -> None:
    together = shared((5, 2, 9))
    for number, ids in ((9, ["g-t-9", "g-t-together-9"]), (2, ["g-t-2"])):
        await together.committer(number, ()).open()
        assert world.order == [
            "start g-t-together-2",
            "start g-t-together-5",
            *(f"fence {each}" for each in ids),
            "read",
        ]
        del world.order[2:]
    await together.end()


async def test_a_start_that_fails_is_said_to_all_and_tried_again_by_the_next(world: World) -> None:
    together = shared()
    world.starts_fail = 2
    told = await asyncio.gather(together.ready(), together.ready(), return_exceptions=True)
    assert [type(each) for each in told] == [KafkaError] * 2
    assert world.open() == []
    world.starts_fail = 1
    await together.ready()
    assert together._producers.alive == 1
    async with asyncio.timeout(10):
        while together._producers.alive < 2:
            await asyncio.sleep(0.001)
    assert sound(together)
    await together.end()


async def test_the_end_leaves_no_task_and_no_producer(world: World) -> None:
    before = asyncio.all_tasks()
    together = shared()
    await together.ready()
    world.fates = ["before", "hang"]
    with pytest.raises(KafkaError):
        await together.commit(0, output("0"))
    loop = asyncio.create_task(together.commit(1, output("1")))
    await turns()
    world.steps = 0
    ending = asyncio.create_task(together.end())
    await turns(1)
    ending.cancel()  # whoever it was, the next one waits for the whole of it
    await asyncio.gather(ending, return_exceptions=True)
    await together.end()
    await asyncio.gather(loop, return_exceptions=True)
    assert loop.done()
    await turns()
    assert world.open() == []
    assert asyncio.all_tasks() == before
    with pytest.raises(Expelled):
        await together.commit(0, output("late"))


async def test_an_expelled_member_starts_no_producer_and_commits_nothing_more(
    world: World, together: Together
) -> None:
    world.fates = ["expelled"]
    committer = together.committer(0, ())
    await committer.open()
    made = len(world.made)
    with pytest.raises(Expelled):
        await committer.commit(output("0"))
    for number in (0, 1):
        with pytest.raises(Expelled):
            await together.committer(number, ()).open()
        with pytest.raises(Expelled):
            await together.commit(number, output("1"))
    await turns()
    assert len(world.made) == made
    assert world.committed == []


async def test_while_no_producer_is_left_each_partition_has_its_own_and_is_told_why(
    world: World, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "AGAIN_MAX_S", 0.0)
    world.fates, world.starts_fail = ["before"] * 2, 6
    for _ in range(2):
        with pytest.raises(KafkaError, match="before"):
            await together.commit(0, output("x"))
    with pytest.raises(KafkaError, match="no broker"):
        await together.commit(2, output("x"))
    assert isinstance(together.alone(2, ()), Transactional)
    async with asyncio.timeout(10):
        while together._producers.alive < 2:
            await asyncio.sleep(0.001)
    assert together.alone(2, ()) is None


async def test_starts_that_hang_hold_nobody_up_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "START_S", 0.01)
    world.start_gate = asyncio.Event()
    together = shared()
    committer = together.committer(0, (TopicPartition("t", 0),))
    opened: list[str] = []

    class Alone:
        def __init__(self, **_options: Any) -> None:
            pass

        async def open(self) -> Committed:
            opened.append("alone")
            return Committed({})

        async def close(self) -> None:
            opened.append("closed")

    monkeypatch.setattr(module, "Transactional", Alone)
    await asyncio.wait_for(committer.open(), 5)
    assert opened == ["alone"]
    await committer.close()
    world.start_gate.set()
    await together.ready()
    assert together._producers.alive == 2
    await together.end()


async def test_who_waited_longest_does_not_end_what_holds_the_others_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = shared()
    together.deadline_s = 0.2
    await together.ready()
    world.gate = asyncio.Event()
    tasks = []
    for number in (0, 1):
        tasks.append(asyncio.create_task(together.commit(number, output("first"))))
        await turns()
    waits = [asyncio.create_task(together.commit(2, output("waited")))]
    await asyncio.sleep(0.15)
    first, world.gate = world.gate, asyncio.Event()
    first.set()
    await asyncio.gather(*tasks)
    waits.append(asyncio.create_task(together.commit(3, output("fresh"))))
    await asyncio.sleep(0.1)
    assert not any(each.done() for each in waits)
    world.gate.set()
    await asyncio.gather(*waits)
    assert sorted(text for each in world.committed for text in each) == ["first", "first", "fresh", "waited"]
    await together.end()


async def test_one_that_is_given_up_before_its_first_step_is_told_to_all(world: World) -> None:
    numbers = range(OUTPUTS_MAX + 2)
    together = shared(numbers)
    await together.ready()
    world.gate = asyncio.Event()
    busy = []
    for number in (0, 1):
        busy.append(asyncio.create_task(together.commit(number, output("busy"))))
        await turns()
    full = [asyncio.create_task(together.commit(number, output("full"))) for number in numbers[2:]]
    await turns()
    world.gate.set()
    joint = None
    async with asyncio.timeout(10):
        while joint is None:
            await asyncio.sleep(0)
            joint = next(
                (each for each in together._under_way.values() if len(each.entries) == OUTPUTS_MAX), None
            )
    assert joint.task is not None
    joint.task.cancel()
    told = await asyncio.wait_for(asyncio.gather(*full, return_exceptions=True), 5)
    assert [type(each) for each in told] == [TimeoutError] * OUTPUTS_MAX
    await asyncio.gather(*busy)
    await together.end()


FATES = ("ok", "ok", "ok", "before", "after", "hang", "hang after", "fenced")


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_fails_each_batch_is_committed_once_and_never_after_its_loop_was_told(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Loops as `PartitionLoop` is: one batch at a time, given up after a while, begun anew from what is committed."""
    chance = random.Random(seed)
    monkeypatch.setattr(producers, "FENCED_S", 0.0)
    monkeypatch.setattr(module, "GATHER_S", 0.0005)
    monkeypatch.setattr(module, "ALONE_AFTER", 10**9)
    world.steps = chance.randint(0, 4)
    world.fates = [chance.choice(FATES) for _ in range(40)]
    many = 5 if seed % 2 else 24
    together = shared(range(many))
    await together.ready()

    def is_committed(text: str) -> bool:
        return any(text in each for each in world.committed)

    async def loop(number: int) -> None:
        position = 0
        while position < 12:
            text = f"{number}:{position}"
            committer = together.committer(number, ())
            try:
                if chance.random() < 0.7:
                    await committer.begin()
                for _ in range(chance.randint(0, 5)):
                    await asyncio.sleep(0)
                if chance.random() < 0.05:
                    world.starts_fail += 1
                if chance.random() < 0.05:
                    chance.choice(world.made).broken = KafkaError("died")
                async with asyncio.timeout(chance.choice([0.0, 0.002, 0.01, 0.01])):
                    await committer.commit(output(text))
                position += 1
            except (KafkaError, Fenced, TimeoutError):
                told = is_committed(text)
                await committer.close()
                await turns(chance.randint(0, 30))
                assert is_committed(text) is told, "committed after its loop was told that it failed"
                position += told

    async with asyncio.timeout(30):
        await asyncio.gather(*map(loop, range(many)))
    counts = Counter(text for each in world.committed for text in each)
    assert counts == {f"{number}:{position}": 1 for number in range(many) for position in range(12)}
    async with asyncio.timeout(10):
        while together._producers.alive < 2:
            await asyncio.sleep(0.001)
    await turns()
    assert sound(together)
    await together.end()
    assert world.open() == []
