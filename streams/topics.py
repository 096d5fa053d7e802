"""Topics of this deployment: their names, and a check that they are as they must be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from msgspec import Struct

from pointsman.schemas import topics
from pointsman.streams.errors import KafkaUnavailable, TopicProblem
from pointsman.streams.settings import Settings

CONNECT_S: Final = 15.0
APPEAR_S: Final = 15.0
"""A created topic shows at once on an idle broker; on a machine under load it was missed once right after."""
APPEAR_POLL_S: Final = 0.05


class Names:
    """The topics' names with the deployment's prefix."""

    def __init__(self, prefix: str = "", retry_delays_ms: Sequence[int] = topics.RETRY_DELAYS_MS) -> None:
        self.requests = prefix + topics.REQUESTS.name
        self.feedback = prefix + topics.FEEDBACK.name
        self.outcomes = prefix + topics.OUTCOMES.name
        self.shadows = prefix + topics.SHADOWS.name
        self.escalations = prefix + topics.ESCALATIONS.name
        self.summaries = prefix + topics.SUMMARIES.name
        self.dead_letters = prefix + topics.DEAD_LETTERS.name
        self.redrives = prefix + topics.REDRIVES.name
        self.state = prefix + topics.STATE.name
        self.flags = prefix + topics.FLAGS.name
        self.retries = tuple(prefix + topics.retries(delay_ms).name for delay_ms in retry_delays_ms)
        """Where a request waits for its second, third, ... attempt."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of a deployment with these settings."""
        return cls(settings.topic_prefix, settings.retry_delays_ms)


def control_group(settings: Settings) -> str:
    """The control plane's group, with which the names of its tables' topics begin."""
    return f"{settings.group}{'-' if settings.topic_prefix else ''}{settings.topic_prefix}-control"


class TopicState(Struct):
    """What a topic is and what it should be."""

    name: str
    partitions: int
    """0: it does not exist."""
    wanted: int
    problem: str = ""


async def connect(servers: str) -> AIOKafkaAdminClient:
    """An admin client. Raises `KafkaUnavailable` where no broker answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=int(CONNECT_S * 1000))
    try:
        await asyncio.wait_for(admin.start(), CONNECT_S)
    except (TimeoutError, KafkaError, OSError) as error:
        await admin.close()
        msg = f"no Kafka broker answers at {servers} ({type(error).__name__})"
        raise KafkaUnavailable(msg) from error
    return admin


async def states(admin: AIOKafkaAdminClient, settings: Settings) -> list[TopicState]:
    """Each topic with its partitions and what is wrong with it."""
    existing = set(await admin.list_topics())
    deployed = topics.deployed(settings.retry_delays_ms)
    names = [settings.topic_prefix + topic.name for topic in deployed]
    described = await admin.describe_topics([name for name in names if name in existing])
    found = {each["topic"]: len(each["partitions"]) for each in described if not each["error_code"]}
    requests = found.get(names[0]) or settings.partitions
    rows = []
    for topic, name in zip(deployed, names, strict=True):
        row = TopicState(name, found.get(name, 0), topic.partitions or requests)
        if not row.partitions:
            row.problem = "missing; `pointsman topics create` makes it"
        elif topic.partitions is None and row.partitions != requests:
            row.problem = f"has {row.partitions} partitions, {names[0]} has {requests}; they must be equal (`pointsman topics grow`)"
        rows.append(row)
    return rows


async def create(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    """Create what is missing; the names of what was created. Raises `TopicProblem` where the broker refuses."""
    missing = {row.name: row.wanted for row in await states(admin, settings) if not row.partitions}
    wanted = [
        NewTopic(
            settings.topic_prefix + topic.name,
            num_partitions=missing[settings.topic_prefix + topic.name],
            replication_factor=settings.replication,
            topic_configs={"cleanup.policy": topic.cleanup, "retention.ms": str(topic.retention_ms)}
            if topic.cleanup == "delete"
            # A local snapshot is trusted while what was taken away since can still be read.
            else {"cleanup.policy": topic.cleanup, "delete.retention.ms": str(topics.TOMBSTONES_MS)},
        )
        for topic in topics.deployed(settings.retry_delays_ms)
        if settings.topic_prefix + topic.name in missing
    ]
    return await _make(admin, wanted)


async def _make(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> list[str]:
    """The names of what was created here. Raises `TopicProblem` where the broker refuses."""
    if not wanted:
        return []
    response = await admin.create_topics(wanted)
    created = []
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error is not TopicAlreadyExistsError:  # another process was quicker
            msg = f"topic {name} cannot be created: {error.__name__} {rest[0] if rest and rest[0] else ''}"
            raise TopicProblem(msg)
    return created


async def appear(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    """Wait until the broker shows every topic: it confirms a creation before its own metadata has it.

    Raises `TopicProblem` when that takes too long.
    """
    try:
        async with asyncio.timeout(APPEAR_S):
            while not all(row.partitions for row in await states(admin, settings)):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(APPEAR_POLL_S)
    except TimeoutError:
        msg = f"the broker made the topics but does not show them after {APPEAR_S:.0f} s"
        raise TopicProblem(msg) from None


async def ensure(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> None:
    """Create topics that are missing, and wait until the broker shows them all. Raises `TopicProblem`."""
    existing = set(await admin.list_topics())
    await _make(admin, [topic for topic in wanted if topic.name not in existing])
    names = [topic.name for topic in wanted]
    try:
        async with asyncio.timeout(APPEAR_S):
            while not await _shown(admin, names):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(APPEAR_POLL_S)
    except TimeoutError:
        msg = f"the broker does not show {', '.join(names)} after {APPEAR_S:.0f} s"
        raise TopicProblem(msg) from None


async def _shown(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    described = await admin.describe_topics(names)
    return len(described) == len(names) and all(
        each["partitions"] and not each["error_code"] for each in described
    )


async def check(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    """Raise `TopicProblem` unless every topic is there as it must be."""
    problems = [f"{row.name}: {row.problem}" for row in await states(admin, settings) if row.problem]
    if problems:
        raise TopicProblem("; ".join(problems))


async def partition_numbers(servers: str, topic: str) -> list[int]:
    """A topic's partitions. Raises `TopicProblem` where it does not exist, `KafkaUnavailable` without a broker."""
    admin = await connect(servers)
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"]:
        msg = f"topic {topic}: {for_code(described['error_code']).__name__}"
        raise TopicProblem(msg)
    return sorted(each["partition"] for each in described["partitions"])
