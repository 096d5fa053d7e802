"""Fencing by the group's generation, at a real broker: whose offsets it takes, and when it says where they stand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from pointsman.streams.commit import stable
from pointsman.streams.errors import Fenced
from pointsman.streams.fence import fence
from pointsman.streams.membership import Member, stable_offsets
from pointsman.streams.output import Output
from pointsman.streams.producer import Producer, positions
from pointsman.streams.settings import Settings
from pointsman.streams.together import Together
from tests.support.kafka import Kafka, console_consumer

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

    def producer(self, name: str, member: Member | None) -> Producer:
        return Producer(
            servers=self.kafka.bootstrap,
            group=self.group,
            transactional_id=f"{self.group}-{name}",
            settings=Settings(),
            member=member,
        )

    async def seen(self, count: int) -> list[str]:
        """What a `read_committed` consumer that we did not write reads."""
        return await asyncio.to_thread(console_consumer, self.kafka.bootstrap, self.target, count=count)

    async def stand(self) -> dict[TopicPartition, tuple[int, str]]:
        found = await asyncio.wait_for(stable_offsets(self.admin, self.group, self.inputs), WAIT_S)
        return {tp: (at.offset, at.metadata) for tp, at in found.items()}


@pytest.fixture
async def place(kafka: Kafka, topic_prefix: str) -> AsyncIterator[Place]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    while True:  # the first question about a group makes a new broker create the topic for it
        with contextlib.suppress(GroupCoordinatorNotAvailableError):
            await admin.find_coordinator("any")
            break
        await asyncio.sleep(0.05)
    yield Place(kafka, topic_prefix, admin)
    await admin.close()


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
    assert sorted(await place.seen(3)) == ["a", "b", "c"]


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


async def test_partitions_share_a_transaction_and_one_that_is_given_up_moves_nothing(
    place: Place, joined: Callable[[], object]
) -> None:
    member = await owner(await joined(), 2)  # type: ignore[misc]
    together = Together(
        servers=place.kafka.bootstrap,
        group=place.group,
        prefix=place.group,
        settings=Settings(),
        admin=lambda: place.admin,
        member=member,
        numbers=(0, 1),
    )
    committers = [together.committer(number, (place.inputs[number],)) for number in (0, 1)]
    try:
        opened = await asyncio.wait_for(asyncio.gather(*(each.open() for each in committers)), WAIT_S)
        assert [each.positions for each in opened] == [{tp: None} for tp in place.inputs]
        for text, at in (("a", 1), ("b", 2)):
            for committer in committers:
                await committer.begin()
            await asyncio.gather(
                *(
                    committer.commit(place.output(f"{text}{number}", at, number))
                    for number, committer in enumerate(committers)
                )
            )
        assert await place.stand() == {place.inputs[0]: (2, "b0"), place.inputs[1]: (2, "b1")}

        given_up = asyncio.create_task(committers[0].commit(place.output("x", 9)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await committers[0].close()
        again = together.committer(0, (place.inputs[0],))
        found = (await asyncio.wait_for(again.open(), WAIT_S)).positions[place.inputs[0]]
        assert found in (2, 9)
        await again.commit(place.output("c", 10))
        assert (await place.stand())[place.inputs[0]] == (10, "c")
    finally:
        await together.end()
    seen = await place.seen(5 + (found == 9))
    assert sorted(seen) == sorted(["a0", "a1", "b0", "b1", "c"] + ["x"] * (found == 9))
