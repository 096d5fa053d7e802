"""Fencing by the group's generation, at a real broker: whose offsets it takes, and when it says where they stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pointsman.streams.commit import Transactional, stable
from pointsman.streams.errors import Fenced
from pointsman.streams.fence import fence
from pointsman.streams.membership import Member, stable_offsets
from pointsman.streams.output import Output
from pointsman.streams.producer import Producer, positions
from pointsman.streams.settings import Settings
from pointsman.streams.shared import Shared
from pointsman.streams.together import Together
from tests.support.kafka import Kafka
from tests.support.producers import asking, producer

WAIT_S = 30.0


class Place:
    """A group, a topic that it reads and one that it writes, of two partitions each."""

    def __init__(self, kafka: Kafka, prefix: str, admin: AIOKafkaAdminClient) -> None:
        self.kafka, self.admin = kafka, admin
        self.group = f"{prefix}g"
        self.source = kafka.create_topic(f"{prefix}source", 2)
        self.target = kafka.create_topic(f"{prefix}target", 2)
        self.inputs = [TopicPartition(self.source, number) for number in (0, 1)]

    def output(self, text: str, at: int, number: int = 0) -> Output:
        made = Output(positions={self.inputs[number]: at}, metadata=text)
        made.add(self.target, number, [(None, text.encode(), [])])
        return made

    def producer(self, name: str, member: Member) -> Producer:
        return producer(self.kafka.bootstrap, f"{self.group}-{name}", self.group, member)

    async def seen(self) -> list[str]:
        """All that a `read_committed` consumer that we did not write can read now, sorted."""
        return await asyncio.to_thread(_read, self.kafka.bootstrap, self.target)

    async def stand(self) -> dict[TopicPartition, tuple[int, str]]:
        found = await asyncio.wait_for(stable_offsets(self.admin, self.group, self.inputs), WAIT_S)
        return {tp: (at.offset, at.metadata) for tp, at in found.items()}


def _read(bootstrap: str, topic: str) -> list[str]:
    options = {
        "bootstrap.servers": bootstrap,
        "group.id": "reads",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
    consumer = confluent_kafka.Consumer(options)
    consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in (0, 1)])
    values, ended = [], set()
    while len(ended) < 2:
        message = consumer.poll(WAIT_S)
        assert message is not None
        if message.error() is None:
            values.append(message.value().decode())
        else:
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            ended.add(message.partition())
    consumer.close()
    return sorted(values)


@pytest.fixture
async def place(kafka: Kafka, topic_prefix: str) -> AsyncIterator[Place]:
    async with asking(kafka.bootstrap) as admin:
        yield Place(kafka, topic_prefix, admin)


@pytest.fixture
async def joined(place: Place) -> AsyncIterator[Callable[[], object]]:
    """Another consumer of the group for each call; a new one makes a new generation."""
    consumers: list[AIOKafkaConsumer] = []

    async def join() -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            place.source,
            bootstrap_servers=place.kafka.bootstrap,
            group_id=place.group,
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=6_000,
        )
        consumers.append(consumer)
        await consumer.start()
        return consumer

    yield join
    await asyncio.gather(*(consumer.stop() for consumer in consumers))


async def owner(consumer: AIOKafkaConsumer, count: int) -> Member:
    """Once it owns so many partitions."""
    async with asyncio.timeout(WAIT_S):
        while len(consumer.assignment()) != count:
            await asyncio.sleep(0.02)
    return Member.of(consumer)


async def test_a_member_commits_until_the_group_has_gone_on_without_it(
    place: Place, joined: Callable[[], object]
) -> None:
    first = await joined()  # type: ignore[misc]
    before = await owner(first, 2)
    old = place.producer("old", before)
    await old.start()
    try:
        await old.commit([place.output("a", 1), place.output("b", 2, 1)])
        assert await place.stand() == {place.inputs[0]: (1, "a"), place.inputs[1]: (2, "b")}

        old.announce([TopicPartition(place.target, 0)])
        second = await joined()  # type: ignore[misc]
        await owner(second, 1)
        with pytest.raises(Fenced):
            await old.commit([place.output("too late", 9)])
        assert await place.stand() == {place.inputs[0]: (1, "a"), place.inputs[1]: (2, "b")}

        now = await owner(first, 1)
        assert now.generation > before.generation
        new = place.producer("new", now)
        await new.start()
        await new.commit([place.output("c", 3)])
        await new.close()
    finally:
        await old.close()
    await fence(place.admin._client, [f"{place.group}-old"], 60_000)  # else consumers wait for its time-out
    assert await place.seen() == ["a", "b", "c"]


async def test_one_that_left_the_group_commits_nothing(place: Place, joined: Callable[[], object]) -> None:
    first, second = await joined(), await joined()  # type: ignore[misc]
    member = await owner(second, 1)
    await second.stop()
    await owner(first, 2)
    producer = place.producer("gone", member)
    await producer.start()
    with pytest.raises(Fenced):
        await producer.commit([place.output("x", 1)])
    await producer.close()
    assert await place.stand() == dict.fromkeys(place.inputs, (-1, ""))


async def test_offsets_are_said_once_no_open_transaction_holds_them(
    place: Place, joined: Callable[[], object]
) -> None:
    member = await owner(await joined(), 2)  # type: ignore[misc]
    producer = place.producer("x", member)
    await producer.start()
    try:
        await producer.commit([place.output("a", 1)])
        output = place.output("b", 2)
        producer.announce(TopicPartition(*where) for where in output.messages)
        await producer.client.send_offsets_to_transaction(positions([output]), place.group)
        asked = asyncio.create_task(stable(place.admin, place.group, place.inputs))
        told, _ = await asyncio.wait({asked}, timeout=0.5)
        assert not told, "the transaction may still be committed"
        await producer.client.commit_transaction()
        found = await asyncio.wait_for(asked, WAIT_S)
        assert found.positions == {place.inputs[0]: 2, place.inputs[1]: None}
        assert found.metadata == "b"
    finally:
        await producer.close()


async def test_who_has_transactions_of_its_own_waits_for_those_of_others_too(
    place: Place, joined: Callable[[], object]
) -> None:
    """As a partition that goes alone because the one that it shared hangs, and may be committed yet."""
    member = await owner(await joined(), 2)  # type: ignore[misc]
    shared = place.producer("x", member)
    await shared.start()
    own = Transactional(place.producer("own", member), lambda: place.admin, place.group, (place.inputs[0],))
    try:
        output = place.output("b", 2)
        shared.announce(TopicPartition(*where) for where in output.messages)
        await shared.client.send_offsets_to_transaction(positions([output]), place.group)
        opening = asyncio.create_task(own.open())
        done, _ = await asyncio.wait({opening}, timeout=1.0)
        assert not done
        await shared.client.commit_transaction()
        assert (await asyncio.wait_for(opening, WAIT_S)).positions == {place.inputs[0]: 2}
    finally:
        await asyncio.gather(shared.close(), own.close())


async def test_what_another_left_open_is_ended_and_its_owner_fenced(
    place: Place, joined: Callable[[], object]
) -> None:
    member = await owner(await joined(), 2)  # type: ignore[misc]
    left = place.producer("left", member)
    await left.start()
    output = place.output("lost", 2)
    left.announce(TopicPartition(*where) for where in output.messages)
    await left.client.send_offsets_to_transaction(positions([output]), place.group)
    await asyncio.wait_for(
        fence(place.admin._client, [f"{place.group}-{name}" for name in ("never", "left")], 60_000), WAIT_S
    )
    assert await place.stand() == dict.fromkeys(place.inputs, (-1, ""))
    with pytest.raises(Fenced):
        await left.commit([place.output("again", 2)])
    await left.close()


class Held:
    """The first request of a kind that a producer sends: held back, or sent and its answer held back."""

    def __init__(self, made: Producer, kind: str, *, sent: bool) -> None:
        self.there = asyncio.Event()
        self._client, self._kind, self._sent = made.client.client, kind, sent
        self._send = self._client.send
        self._client.send = self._hold

    async def _hold(self, node: Any, request: Any, **options: Any) -> Any:
        if type(request).__name__ != f"{self._kind}Request" or self.there.is_set():
            return await self._send(node, request, **options)
        if self._sent:
            await self._send(node, request, **options)
        self.there.set()
        return await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("kind", "sent", "moved"),
    [
        ("Produce", True, False),
        ("TxnOffsetCommit", True, False),
        ("EndTxn", False, False),
        ("EndTxn", True, True),
    ],
)
async def test_a_shared_transaction_that_is_given_up_moves_all_or_nothing(
    place: Place, joined: Callable[[], object], kind: str, sent: bool, moved: bool
) -> None:
    together = Together(
        servers=place.kafka.bootstrap,
        group=place.group,
        prefix=place.group,
        settings=Settings(),
        admin=lambda: place.admin,
        member=await owner(await joined(), 2),  # type: ignore[misc]
        numbers=(0, 1),
    )
    committers = [Shared(together, number, (place.inputs[number],)) for number in (0, 1)]

    async def commit(text: str, at: int) -> list[BaseException | None]:
        for committer in committers:
            await committer.begin()
        outputs = [place.output(f"{text}{number}", at, number) for number in (0, 1)]
        return await asyncio.gather(
            *(each.commit(output) for each, output in zip(committers, outputs, strict=True)),
            return_exceptions=True,
        )

    try:
        opened = await asyncio.wait_for(asyncio.gather(*(each.open() for each in committers)), WAIT_S)
        assert [each.positions for each in opened] == [{tp: None} for tp in place.inputs]
        assert await commit("a", 1) == await commit("b", 2) == [None, None]
        assert await place.stand() == {place.inputs[0]: (2, "b0"), place.inputs[1]: (2, "b1")}

        held = Held(together._producers.free[0], kind, sent=sent)
        given_up = asyncio.create_task(commit("c", 3))
        await asyncio.wait_for(held.there.wait(), WAIT_S)
        next(iter(together._under_way.values())).task.cancel()  # type: ignore[union-attr]  # as a loop that withdraws
        assert [type(each) for each in await given_up] == [TimeoutError] * 2
        found = await asyncio.wait_for(asyncio.gather(*(each.open() for each in committers)), WAIT_S)
        assert [list(each.positions.values()) for each in found] == [[3 if moved else 2]] * 2
        assert await commit("d", 4) == [None, None]
        async with asyncio.timeout(WAIT_S):
            while together._producers.alive < 2:  # the one that takes its place ends what it left open
                await asyncio.sleep(0.02)
    finally:
        await together.end()
    texts = [f"{text}{number}" for text in ("abcd" if moved else "abd") for number in (0, 1)]
    assert await place.seen() == texts
