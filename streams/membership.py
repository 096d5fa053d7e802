"""Fencing by the consumer group's generation (KIP-447), which aiokafka's own requests leave out.

`install` has a producer commit its offsets in the name of a member: the coordinator refuses them once the group has
gone on without it. `stable_offsets` reads offsets that no open transaction can still move. Together they let one
transaction hold the batches of many partitions, whichever of them move to another worker afterwards.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any, ClassVar, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import CoordinationType
from aiokafka.errors import GroupAuthorizationFailedError, GroupLoadInProgressError, ProducerFenced, for_code
from aiokafka.producer.sender import TxnOffsetCommitHandler
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import OffsetAndMetadata

EXPELLED: Final = {22, 25}
"""ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID: the group has gone on without this member."""
UNSTABLE: Final = 88
"""UNSTABLE_OFFSET_COMMIT: a transaction is open that holds an offset of this partition."""
AGAIN_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Between questions for offsets that are not stable yet; the last repeats."""
TEXT: Final = CompactString("utf-8")


class ProducerExpelled(ProducerFenced):  # type: ignore[misc]
    """The group has gone on without the member, for good: it commits nothing more."""


class Member(NamedTuple):
    """A consumer in a generation of its group: owner of what it was assigned then, and not after."""

    id: str
    generation: int

    @classmethod
    def of(cls, consumer: AIOKafkaConsumer) -> Member:
        """As it is now; call it while partitions are assigned, for the next rebalance makes another one of it."""
        coordinator = consumer._coordinator  # noqa: SLF001 - the client has no public way
        member = cls(coordinator.member_id, coordinator.generation)
        assert member.id and member.generation >= 0, "else the coordinator would look at neither"
        return member


# -- offsets in a transaction ----------------------------------------------------------------------


class TxnOffsetCommitResponse_v3(Response):  # type: ignore[misc]  # noqa: N801 - as the client names them
    """Errors by topic and partition."""

    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class TxnOffsetCommitRequest_v3(RequestStruct):  # type: ignore[misc]  # noqa: N801
    """KIP-447: with generation and member."""

    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponse_v3
    SCHEMA = Schema(
        ("transactional_id", TEXT),
        ("group_id", TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation", Int32),
        ("member_id", TEXT),
        ("group_instance_id", TEXT),
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", TEXT),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class TxnOffsetCommitRequest(Request[TxnOffsetCommitRequest_v3]):  # type: ignore[misc]
    """Offsets in a transaction, in the name of a member."""

    API_KEY: ClassVar[int] = 28

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: type[TxnOffsetCommitRequest_v3]) -> TxnOffsetCommitRequest_v3:
        """In the one version there is."""
        return request_struct_class(*self._fields, {})


class _Handler(TxnOffsetCommitHandler):  # type: ignore[misc]
    """The client's own, with another request; it raises `ProducerExpelled` for a member that is."""

    def __init__(
        self, sender: Any, offsets: dict[TopicPartition, OffsetAndMetadata], group: str, member: Member
    ) -> None:
        super().__init__(sender, offsets, group)
        self._member = member

    def create_request(self) -> TxnOffsetCommitRequest:
        transactions = self._sender._txn_manager  # noqa: SLF001
        topics: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for tp, at in sorted(self._offsets.items()):
            topics[tp.topic].append((tp.partition, at.offset, -1, at.metadata, {}))
        return TxnOffsetCommitRequest(
            transactions.transactional_id,
            self._group_id,
            transactions.producer_id,
            transactions.producer_epoch,
            self._member.generation,
            self._member.id,
            None,
            [(topic, partitions, {}) for topic, partitions in topics.items()],
        )

    def handle_response(self, response: TxnOffsetCommitResponse_v3) -> float | None:
        errors = [
            (topic, [(partition, code) for partition, code, _ in partitions])
            for topic, partitions, _ in response.errors
        ]
        if any(code in EXPELLED for _, partitions in errors for _, code in partitions):
            raise ProducerExpelled
        wait: float | None = super().handle_response(SimpleNamespace(errors=errors))
        return wait


def install(producer: AIOKafkaProducer, member: Member) -> None:
    """Into a producer that is not started yet: its transactions' offsets are the member's."""
    sender = producer._sender  # noqa: SLF001 - the client has no public way

    async def commit(offsets: dict[TopicPartition, OffsetAndMetadata], group: str) -> None:
        if not offsets:
            return
        try:
            node = await sender._find_coordinator(CoordinationType.GROUP, group)  # noqa: SLF001
        except GroupAuthorizationFailedError as error:
            sender._txn_manager.error_transaction(error)  # noqa: SLF001
            return
        await _Handler(sender, offsets, group, member).do(node)

    sender._do_txn_offset_commit = commit  # noqa: SLF001


# -- offsets that stand ------------------------------------------------------------------------------


class OffsetFetchResponse_v7(Response):  # type: ignore[misc]  # noqa: N801
    """Offsets by topic and partition."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", TEXT),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequest_v7(RequestStruct):  # type: ignore[misc]  # noqa: N801
    """KIP-447: with the wish for stable offsets."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponse_v7
    SCHEMA = Schema(
        ("group", TEXT),
        (
            "topics",
            CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class OffsetFetchRequest(Request[OffsetFetchRequest_v7]):  # type: ignore[misc]
    """A group's offsets, none that an open transaction can still move."""

    API_KEY: ClassVar[int] = 9

    def __init__(self, group: str, topics: Mapping[str, Sequence[int]]) -> None:
        self._group = group
        self._topics = topics

    def build(self, request_struct_class: type[OffsetFetchRequest_v7]) -> OffsetFetchRequest_v7:
        """In the one version there is."""
        topics: list[tuple[Any, ...]] = [
            (topic, list(partitions), {}) for topic, partitions in self._topics.items()
        ]
        return request_struct_class(self._group, topics, True, {})


async def stable_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's offset of each partition, -1 where there is none; waits while a transaction is open that holds one.

    And while the coordinator reads its log, as after the broker's start. Raises KafkaError where the broker cannot say.
    """
    topics: dict[str, list[int]] = defaultdict(list)
    for tp in partitions:
        topics[tp.topic].append(tp.partition)
    node = await admin.find_coordinator(group)
    for wait in chain(AGAIN_S, repeat(AGAIN_S[-1])):
        answer = await admin._send_request(OffsetFetchRequest(group, topics), node)  # noqa: SLF001
        found = {
            TopicPartition(topic, partition): (OffsetAndMetadata(offset, metadata or ""), code)
            for topic, each, _ in answer.topics
            for partition, offset, _, metadata, code, _ in each
        }
        codes = {answer.error_code, *(code for _, code in found.values())} - {0}
        if not codes:
            if missing := [tp for tp in partitions if tp not in found]:
                raise GroupLoadInProgressError(f"the coordinator of {group} says nothing of {missing}")
            return {tp: found[tp][0] for tp in partitions}
        if others := codes - {UNSTABLE, GroupLoadInProgressError.errno}:
            raise for_code(min(others))(f"the offsets of {group}")
        await asyncio.sleep(wait)
    raise AssertionError
