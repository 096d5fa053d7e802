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

from pointsman.streams import together as module
from pointsman.streams.errors import Fenced
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
        self.fenced: list[str] = []
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
        await asyncio.sleep(0)
        if self.world.starts_fail:
            self.world.starts_fail -= 1
            raise KafkaError("no broker")

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
        if fate in ("ok", "after", "hang after"):
            world.committed.append([output.metadata for output in outputs])
        if fate in ("before", "after"):
            raise KafkaError(fate)
        if fate.startswith("hang"):
            await asyncio.Event().wait()
        self.begun, self.announced = False, []

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    FakeProducer.world = made

    async def fence(_client: Any, ids: Iterable[str], _timeout_ms: int) -> None:
        made.fenced.extend(ids)

    async def stable(_admin: Any, _group: str, partitions: Sequence[TopicPartition]) -> Committed:
        return Committed(dict.fromkeys(partitions, 5))

    monkeypatch.setattr(module, "Producer", FakeProducer)
    monkeypatch.setattr(module, "fence", fence)
    monkeypatch.setattr(module, "stable", stable)
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    return made


def shared(numbers: Sequence[int] = (0, 1, 2, 3)) -> Together:
    return Together(
        servers="127.0.0.1:1",
        group="g",
        prefix="g-t",
        settings=Settings(),
        admin=lambda: None,  # type: ignore[arg-type,return-value]
        member=Member("m", 7),
        numbers=numbers,
    )


@pytest.fixture
async def together(world: World) -> AsyncIterator[Together]:
    made = shared()
    await made.ready()
    yield made
    await made.end()


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
        while not world.made[0].closed or len(world.open()) < 2:
            await asyncio.sleep(0.001)
    assert world.open() == ["g-t-together-0", "g-t-together-1"]
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

    monkeypatch.setattr(module.asyncio, "sleep", noted)
    world.fates = ["fenced"]
    with pytest.raises(Fenced):
        await together.commit(0, output("0"))
    for _ in range(20):
        await sleep(0)
    assert waited == [module.FENCED_S]


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


async def test_whatever_was_left_open_of_its_partitions_is_ended_before_anything_is_read(
    world: World,
) -> None:
    together = shared((5, 2, 9))
    committer = together.committer(9, ())
    await committer.open()
    assert world.ids == ["g-t-together-2", "g-t-together-5"]
    assert set(world.fenced) == {"g-t-together-9", "g-t-2", "g-t-5", "g-t-9"}
    await together.end()


async def test_a_start_that_fails_is_said_to_all_and_tried_again_by_the_next(world: World) -> None:
    together = shared()
    world.starts_fail = 1
    told = await asyncio.gather(together.ready(), together.ready(), return_exceptions=True)
    assert [type(each) for each in told] == [KafkaError] * 2
    assert world.open() == []
    await together.ready()
    assert len(world.open()) == 2
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
    await together.end()
    await asyncio.gather(loop, return_exceptions=True)
    assert loop.done()
    assert world.open() == []
    await turns()
    assert asyncio.all_tasks() == before


FATES = ("ok", "ok", "ok", "before", "after", "hang", "hang after", "fenced")


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_fails_each_batch_is_committed_once_and_never_after_its_loop_was_told(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Loops as `PartitionLoop` is: one batch at a time, given up after a while, begun anew from what is committed."""
    chance = random.Random(seed)
    monkeypatch.setattr(module, "FENCED_S", 0.0)
    monkeypatch.setattr(module, "GATHER_S", 0.0005)
    monkeypatch.setattr(module, "ALONE_AFTER", 10**9)
    world.steps = chance.randint(0, 4)
    world.fates = [chance.choice(FATES) for _ in range(40)]
    together = shared(range(5))
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
                async with asyncio.timeout(0.01):
                    await committer.commit(output(text))
                position += 1
            except (KafkaError, Fenced, TimeoutError):
                told = is_committed(text)
                await committer.close()
                await turns(chance.randint(0, 30))
                assert is_committed(text) is told, "committed after its loop was told that it failed"
                position += told

    async with asyncio.timeout(30):
        await asyncio.gather(*map(loop, range(5)))
    counts = Counter(text for each in world.committed for text in each)
    assert counts == {f"{number}:{position}": 1 for number in range(5) for position in range(12)}
    await together.end()
