"""Committers: what stands in one transaction, its order, and what an error leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.structs import RecordMetadata

from pointsman.streams import commit
from pointsman.streams import producer as producers
from pointsman.streams.commit import AtLeastOnce, Transactional, committed
from pointsman.streams.errors import Fenced
from pointsman.streams.output import Message, Output
from pointsman.streams.producer import batches, merged
from pointsman.streams.record_batch import RecordBatch
from pointsman.streams.settings import Settings
from tests.support.producers import producer

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""The lowest three bits of a record batch's attributes (Kafka protocol, record batch format)."""

ONE, TWO = TopicPartition("t", 0), TopicPartition("u", 0)


class Producer:
    """Notes each call; fails at the one that is named."""

    def __init__(self, fails_at: str = "", error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.sent: list[tuple[str, int, int]] = []
        self.offsets: Any = None
        self._fails_at = fails_at
        self._error = error or KafkaError()
        self.client = SimpleNamespace(close=self._close)
        self._sender = SimpleNamespace(close=self._ended)
        self._message_accumulator = SimpleNamespace(_batches={}, _pending_batches=set(), _compression_type=0)
        self._txn_manager = SimpleNamespace(transactional_id="t")

    async def _ended(self) -> None:
        self._call("end")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._fails_at:
            raise self._error

    async def start(self) -> None:
        self._call("start")

    async def stop(self) -> None:
        self._call("stop")

    async def _close(self) -> None:
        self._call("cut")

    async def send_batch(
        self, batch: RecordBatch, topic: str, *, partition: int
    ) -> asyncio.Future[RecordMetadata]:
        self._call("send")
        self.sent.append((topic, partition, batch.record_count()))
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        if self._fails_at == "answer":
            future.set_exception(self._error)
        else:
            where = TopicPartition(topic, partition)
            future.set_result(RecordMetadata(topic, partition, where, 0, 0, 0, 0))
        return future

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        self._call("offsets")
        self.offsets = (offsets, group)

    async def commit_transaction(self) -> None:
        self._call("commit")


class Offsets:
    """The admin client and the consumer, as far as offsets go."""

    def __init__(
        self, found: dict[TopicPartition, tuple[int, str]] | None = None, *, loading: bool = False
    ) -> None:
        self.found = found or {}
        self.loading = loading
        """A coordinator that still loads: its answer is an error, which the client drops, and no partitions."""
        self.committed: Any = None

    async def list_consumer_group_offsets(self, group: str, partitions: list[TopicPartition]) -> Any:
        assert group == "g"
        if self.loading:
            return {}
        found = {tp: self.found.get(tp, (-1, "")) for tp in partitions}  # as a broker says it
        return {tp: SimpleNamespace(offset=at, metadata=text) for tp, (at, text) in found.items()}

    async def commit(self, offsets: Any) -> None:
        self.committed = offsets


def message(n: int, size: int = 10) -> Message:
    return (b"k%d" % n, bytes(size), [("h", b"x")])


def output(*, positions: bool = True) -> Output:
    made = Output(positions={ONE: 7} if positions else {}, metadata="meta")
    made.add("out", 0, [message(1), message(2)])
    made.add("other", 0, [message(3)])
    return made


class Announced:
    """What the coordinator was told; fails at the step that is named."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.partitions: list[TopicPartition] = []

    @property
    def begun(self) -> bool:
        return "begin" in self._producer.calls and "commit" not in self._producer.calls

    def begin_transaction(self) -> None:
        self._producer._call("begin")

    def announce(self, partitions: Iterable[TopicPartition]) -> None:
        self.partitions = list(partitions)
        self._producer._call("announce")

    async def named(self) -> None:
        self._producer._call("named")


def transactional(producer: Producer) -> Transactional:
    inner = producers.Producer.__new__(producers.Producer)
    inner._group, inner.client, inner.transactions = "g", producer, Announced(producer)  # type: ignore[assignment]
    made = Transactional.__new__(Transactional)
    made._producer, made._written = inner, []
    made._group, made._partitions, made._admin = "g", (ONE,), lambda: Offsets({ONE: (5, "m")})  # type: ignore[assignment,return-value]
    return made


async def test_a_transaction_holds_all_messages_and_the_offsets_with_their_metadata() -> None:
    producer = Producer()
    await transactional(producer).commit(output())
    assert producer.calls == ["begin", "announce", "named", "send", "send", "offsets", "commit"]
    assert producer.sent == [("out", 0, 2), ("other", 0, 1)]
    offsets, group = producer.offsets
    assert group == "g"
    assert {tp: (each.offset, each.metadata) for tp, each in offsets.items()} == {ONE: (7, "meta")}


async def test_a_transaction_begins_with_what_the_one_before_wrote() -> None:
    producer = Producer()
    committer = transactional(producer)
    told: Any = committer._producer.transactions
    await committer.begin()
    assert told.partitions == []
    await committer.begin()
    await committer.commit(output())
    assert producer.calls == [
        "begin",
        "announce",
        "announce",
        "announce",
        "named",
        "send",
        "send",
        "offsets",
        "commit",
    ]
    producer.calls.clear()
    await committer.begin()
    assert producer.calls == ["begin", "announce"]
    assert told.partitions == [TopicPartition("out", 0), TopicPartition("other", 0)]


async def test_messages_the_offsets_and_the_end_follow_one_another() -> None:
    """The broker refuses one of two that come side by side."""
    producer = Producer()
    answers: list[tuple[asyncio.Future[RecordMetadata], RecordMetadata]] = []
    at_once = producer.send_batch

    async def later(batch: RecordBatch, topic: str, *, partition: int) -> asyncio.Future[RecordMetadata]:
        known = await (await at_once(batch, topic, partition=partition))
        answers.append((asyncio.get_running_loop().create_future(), known))
        return answers[-1][0]

    producer.send_batch = later  # type: ignore[method-assign]
    under_way = asyncio.create_task(transactional(producer).commit(output()))
    for count in (2, 1):
        await asyncio.sleep(0.01)
        assert producer.calls[-1] == "send", f"{count} answers are missing"
        future, known = answers.pop()
        future.set_result(known)
    await under_way
    assert producer.calls[-2:] == ["offsets", "commit"]


async def test_without_positions_only_messages_are_committed() -> None:
    producer = Producer()
    await transactional(producer).commit(output(positions=False))
    assert "offsets" not in producer.calls
    assert producer.calls[-1] == "commit"


@pytest.mark.parametrize("where", ["begin", "announce", "named", "send", "offsets", "answer", "commit"])
@pytest.mark.parametrize(("error", "seen"), [(KafkaError(), KafkaError), (ProducerFenced(), Fenced)])
async def test_any_error_ends_the_commit_and_fencing_is_told_apart(
    where: str, error: Exception, seen: type[Exception]
) -> None:
    producer = Producer(where, error)
    with pytest.raises(seen):
        await transactional(producer).commit(output())
    assert "commit" not in producer.calls or where == "commit"


async def test_a_coordinator_that_cannot_say_is_no_group_without_offsets() -> None:
    admin: Any = Offsets({ONE: (5, "m")}, loading=True)
    with pytest.raises(KafkaError) as raised:
        await committed(admin, "g", [ONE])
    assert raised.value.retriable


async def test_open_fences_first_and_only_then_reads_the_position(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stable_offsets(admin: Offsets, group: str, partitions: list[TopicPartition]) -> Any:
        return await admin.list_consumer_group_offsets(group, partitions)

    monkeypatch.setattr(commit, "stable_offsets", stable_offsets)
    producer = Producer()
    found = await transactional(producer).open()
    assert producer.calls == ["start"]
    assert (found.positions, found.metadata) == ({ONE: 5}, "m")
    failing = transactional(Producer("start"))
    failing._admin = lambda: pytest.fail("read before it fenced")
    with pytest.raises(KafkaError):
        await failing.open()


async def test_at_least_once_sends_before_it_commits_the_offsets() -> None:
    producer, consumer = Producer("answer"), Offsets()
    made = AtLeastOnce.__new__(AtLeastOnce)
    made._group, made._partitions, made._consumer = "g", (ONE,), consumer  # type: ignore[assignment]
    made._producer = producer
    with pytest.raises(KafkaError):
        await made.commit(output())
    assert consumer.committed is None
    made._producer = Producer()
    await made.commit(output())
    assert {tp: (each.offset, each.metadata) for tp, each in consumer.committed.items()} == {ONE: (7, "meta")}


async def test_a_coordinator_that_still_loads_is_no_group_without_positions_at_least_once_either() -> None:
    admin: Any = Offsets({ONE: (5, "m")}, loading=True)
    made = AtLeastOnce.__new__(AtLeastOnce)
    made._group, made._partitions, made._admin = "g", (ONE,), lambda: admin
    made._producer = Producer()
    with pytest.raises(KafkaError):
        await made.open()
    admin.loading = False
    assert (await made.open()).positions == {ONE: 5}


async def test_positions_that_were_never_committed_are_none_and_bring_no_metadata() -> None:
    admin: Any = Offsets({ONE: (-1, "junk")})
    found = await committed(admin, "g", [ONE, TWO])
    assert (found.positions, found.metadata) == ({ONE: None, TWO: None}, "")


def test_no_messages_make_no_batch() -> None:
    producer: Any = Producer()
    assert list(batches(producer, [])) == []


@pytest.mark.parametrize("error", [KafkaError(), OSError(), TimeoutError()])
async def test_closing_never_raises_and_cuts_the_connections_of_a_producer_in_trouble(
    error: Exception,
) -> None:
    producer: Any = Producer("stop", error)
    await producers.close(producer)
    assert producer.calls == ["stop", "cut", "end"]


async def test_closing_a_producer_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers, "CLOSE_S", 0.01)
    producer: Any = Producer()

    async def hangs() -> None:
        await asyncio.Event().wait()

    producer.stop = hangs
    await producers.close(producer)
    assert producer.calls == ["cut", "end"]


async def test_a_cancelled_close_closes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producers, "CLOSE_S", 0.01)
    producer: Any = Producer()
    stopping = asyncio.Event()

    async def hangs() -> None:
        stopping.set()
        await asyncio.Event().wait()

    producer.stop = hangs
    closing = asyncio.create_task(producers.close(producer))
    await stopping.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert producer.calls == ["cut", "end"]


@pytest.mark.parametrize("compression", CODECS)
async def test_batches_are_compressed_as_set(compression: str) -> None:
    made = producer(settings=Settings(compression=compression))  # type: ignore[arg-type]
    (batch,) = batches(made.client, [(b"key", b"value " * 1_000, [])] * 3)
    batch._build()
    packed = bytes(batch._buffer)
    assert int.from_bytes(packed[21:23], "big") & 7 == CODECS[compression]
    assert (len(packed) < 6_000) is (compression != "none")
    assert packed[22] & 16, "of a transaction"


async def test_batches_of_no_transaction_do_not_say_that_they_are_of_one() -> None:
    """The broker refuses them: a producer that only numbers its messages has no transactional id."""
    client = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
    (batch,) = batches(client, [message(1)])
    assert not batch._build()[22]


def test_one_transaction_has_all_messages_of_its_batches_in_their_order() -> None:
    """Summaries and dead letters of several partitions meet in one."""
    outputs = []
    for n in range(3):
        made = Output()
        made.add("letters", 0, [(b"%d" % n, b"a", []), (b"%d" % n, b"b", [])])
        made.add("outcomes", n, [(b"%d" % n, b"", [])])
        outputs.append(made)
    found = merged(outputs)
    letters = [(key, value) for key, value, _ in found["letters", 0]]
    assert letters == [(b"%d" % n, value) for n in range(3) for value in (b"a", b"b")]
    assert [found["outcomes", n] for n in range(3)] == [[(b"%d" % n, b"", [])] for n in range(3)]


async def test_a_batch_that_was_to_be_sent_again_is_given_up_without_a_word() -> None:
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    tp = TopicPartition("t", 0)
    accumulator = MessageAccumulator(None, 1_000, 0, 30)
    futures = []
    for _ in range(2):  # one that was sent once, and one that was not
        builder = accumulator.create_builder()
        builder.append(timestamp=None, key=b"k", value=b"v")
        futures.append(await accumulator.add_batch(builder, tp, 1))
        if len(futures) == 1:
            accumulator.reenqueue(accumulator._pop_batch(tp))
            tp = TopicPartition("t", 1)

    async def closed() -> None: ...

    client: Any = SimpleNamespace(close=closed)
    producer: Any = SimpleNamespace(_sender=None, _message_accumulator=accumulator, client=client)
    await producers._abandon(producer)
    await asyncio.gather(*futures, return_exceptions=True)
    await asyncio.sleep(0)
    assert said == []
    assert all(future.cancelled() for future in futures)
