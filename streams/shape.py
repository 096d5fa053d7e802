"""Shapes of topics: Kafka's id and the number of partitions, and what it means when they change under a lane.

aiokafka knows Metadata up to version 5, which has no ids; the newer request stands here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, Final, TypeAlias
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from msgspec import Struct

from pointsman.streams.errors import TopicProblem

NO_ID: Final = UUID(int=0)
LOOK_S: Final = 1.0
"""Between two looks: one small request a second and lane."""
MISSED: Final = 5
"""Looks that a topic must be missing for: brokers that came up were seen to know all within a second."""


class Shape(Struct, frozen=True):
    """What a topic is made of."""

    partitions: int
    """0: it does not exist."""
    id: str = ""
    """Empty where the broker tells none."""


Shapes: TypeAlias = Mapping[str, Shape]


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Metadata12Response(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Metadata12(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Metadata12Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataWithIds(Request[_Metadata12]):  # type: ignore[misc]
    """Describe topics without making any: a deleted topic must not come back because it was asked for."""

    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Metadata12]) -> _Metadata12:
        return request_struct_class([(NO_ID, name, {}) for name in self._names], False, False, {})


async def shapes(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, Shape]:
    """The topics as the broker shows them now. Raises a `KafkaError` where it cannot say."""
    wanted = list(names)
    try:
        answer = await admin._send_request(_MetadataWithIds(wanted))  # noqa: SLF001 - the client's way to any request
        rows: list[dict[str, Any]] = answer.to_object()["topics"]
    except NotImplementedError:  # a broker before 3.1, or the embedded one: without ids
        rows = await admin.describe_topics(wanted)
    found = {}
    for row in rows:
        error = for_code(row["error_code"])
        if row["error_code"] and error is not UnknownTopicOrPartitionError:
            raise error(row["topic"])
        id_ = row.get("topic_id", NO_ID)
        found[row["topic"]] = Shape(len(row["partitions"]), "" if id_ == NO_ID else str(id_))
    return {name: found.get(name, Shape(0)) for name in wanted}


class TopicWatch:
    """Remembers what topics were when a lane began, and finds what was done to them since."""

    def __init__(self, names: Iterable[str]) -> None:
        self.known: dict[str, Shape] = {}
        self._names = tuple(names)
        self._missed = 0

    async def begin(self, admin: AIOKafkaAdminClient) -> None:
        """Remember how the topics are. Raises `TopicProblem` where one does not exist."""
        for _ in range(MISSED):
            known = await shapes(admin, self._names)
            missing = [name for name, shape in known.items() if not shape.partitions]
            if not missing:
                break
            await asyncio.sleep(LOOK_S)
        else:
            msg = f"topic {', '.join(missing)} does not exist: `pointsman topics create`"
            raise TopicProblem(msg)
        self.known = known

    async def look(self, admin: AIOKafkaAdminClient) -> str:
        """Why the lane must halt, with the mend; empty where it need not.

        A topic that is not shown counts as deleted once it was looked for several times: a broker that has just
        come up may not know all of them yet.
        """
        now = await shapes(admin, self.known)
        sure = changed({name: was for name, was in self.known.items() if now[name].partitions}, now)
        gone = changed(self.known, now)
        self._missed = self._missed + 1 if gone and not sure else 0
        return sure or (gone if self._missed >= MISSED else "")

    async def verify(self, admin: AIOKafkaAdminClient, names: Iterable[str] = ()) -> None:
        """Raise `TopicProblem` when a topic is not as it was: before records flow, for positions may mean others.

        ``names``: which of them; empty: all.
        """
        known = {name: self.known[name] for name in names} or self.known
        problem = changed(known, await shapes(admin, known))
        if problem:
            raise TopicProblem(problem)


def changed(known: Shapes, now: Shapes) -> str:
    """What was done to topics behind a lane's back, with the mend; empty where they are as they were."""
    problems = []
    for name, was in known.items():
        shape = now[name]
        if not shape.partitions:
            problems.append(f"topic {name} was deleted: make it again (`pointsman topics create`)")
        elif was.id and shape.id and was.id != shape.id:
            problems.append(f"topic {name} was deleted and made anew: its offsets mean other messages now")
        elif (
            shape.partitions > was.partitions
        ):  # less is a broker that does not know all yet: Kafka takes none away
            problems.append(
                f"topic {name} had {was.partitions} partitions and has {shape.partitions}: its keys lie elsewhere now;"
                f" stop every worker, then `pointsman topics grow --partitions {shape.partitions}`"
            )
    return "; ".join(problems) + ("; then restart every worker" if problems else "")
