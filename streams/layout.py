"""By how many partitions a group has placed what it keeps of each unit: said in the metadata beside its offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace

from pointsman.streams.decisions.tally import decode_metadata, encode_metadata
from pointsman.streams.errors import TopicProblem
from pointsman.streams.shape import Shapes
from pointsman.streams.topics import Names

TRIES: Final = 20
"""A coordinator that has just come up reads its log first."""
AGAIN_S: Final = 0.5


def unequal(known: Shapes) -> str:
    """Which topics have how many partitions, where these are not equal; else empty."""
    if len({shape.partitions for shape in known.values()}) <= 1:
        return ""
    each = ", ".join(f"{name} {shape.partitions}" for name, shape in sorted(known.items()))
    return f"topics of one number of partitions have several ({each}): `pointsman topics grow` ends that"


def inputs(names: Names, partitions: int) -> list[TopicPartition]:
    """What a decision lane commits offsets of."""
    topics = (names.requests, names.feedback, *names.retries)
    return [TopicPartition(topic, number) for topic in topics for number in range(partitions)]


def placed_by(offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> set[int]:
    """The numbers that are said."""
    said = {decode_metadata(at.metadata or "").of for at in offsets.values() if at.offset >= 0}
    return said - {0}


def saying(metadata: str, partitions: int) -> str:
    """The same metadata with another number."""
    return encode_metadata(replace(decode_metadata(metadata), of=partitions))


async def verify(
    admin: AIOKafkaAdminClient, group: str, names: Names, known: Shapes, decided_for: int
) -> None:
    """Raise `TopicProblem` where topics have grown and what is kept of units has not been moved.

    ``known``: the topics of a lane that has read nothing yet; ``decided_for``: the partitions that its worker saw.
    """
    now = known[names.requests].partitions
    if problem := unequal(known):
        raise TopicProblem(problem)
    if now != decided_for:
        msg = f"topic {names.requests} had {decided_for} partitions a moment ago and has {now}: start again"
        raise TopicProblem(msg)
    if others := placed_by(await _offsets(admin, group, inputs(names, now))) - {now}:
        was = ", ".join(map(str, sorted(others)))
        msg = (
            f"the topics have {now} partitions, and what group {group} keeps of each unit lies as for {was}:"
            f" `pointsman topics grow --partitions {now}` moves it"
        )
        raise TopicProblem(msg)


async def _offsets(
    admin: AIOKafkaAdminClient, group: str, wanted: Iterable[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    partitions = list(wanted)
    for again in (*repeat(True, TRIES), False):
        try:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                group, partitions=partitions
            )
            if all(tp in found for tp in partitions):
                return found
        except KafkaError:
            if not again:
                raise
        await asyncio.sleep(AGAIN_S)
    msg = f"the coordinator of {group} does not say its offsets"
    raise TopicProblem(msg)
