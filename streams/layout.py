"""By how many partitions a group has placed what it keeps of each unit: said in the metadata beside its offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import repeat
from typing import Final, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from msgspec.structs import replace

from pointsman.streams.commit import offsets
from pointsman.streams.decisions.tally import decode_metadata, encode_metadata
from pointsman.streams.errors import TopicProblem
from pointsman.streams.shape import Shapes
from pointsman.streams.topics import Names

TRIES: Final = 20
"""A coordinator that has just come up reads its log first."""
AGAIN_S: Final = 0.5
T = TypeVar("T")


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


def placed_by(positions: Mapping[TopicPartition, OffsetAndMetadata]) -> set[int]:
    """The numbers that are said."""
    said = {decode_metadata(at.metadata or "").of for at in positions.values() if at.offset >= 0}
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
    known_offsets = await settled(lambda: offsets(admin, group, inputs(names, now)))
    if others := placed_by(known_offsets) - {now}:
        was = ", ".join(map(str, sorted(others)))
        msg = (
            f"the topics have {now} partitions, and what group {group} keeps of each unit lies as for {was}:"
            f" `pointsman topics grow --partitions {now}` moves it"
        )
        raise TopicProblem(msg)


async def settled(ask: Callable[[], Awaitable[T]]) -> T:
    """What a coordinator answers; one that has just come up, or was never asked before, does not at once."""
    for wait in (*repeat(AGAIN_S, TRIES), 0.0):
        try:
            return await ask()
        except KafkaError as error:
            if not wait or not error.retriable:
                raise
        await asyncio.sleep(wait)
    raise AssertionError
