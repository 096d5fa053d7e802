"""The decision lane: `Lane` with the decision work, one fenced producer for each partition number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition

from pointsman.models.agent import Agent
from pointsman.streams.commit import AtLeastOnce, Committer, Transactional
from pointsman.streams.decisions.ask import Scorer
from pointsman.streams.decisions.duplicates import Answered
from pointsman.streams.decisions.latency import observe
from pointsman.streams.decisions.remember import remember
from pointsman.streams.decisions.runtime import runtimes
from pointsman.streams.decisions.validate import Validator
from pointsman.streams.decisions.work import DecisionWork, Surroundings
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.partition import Work
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names


def decision_lane(
    *,
    settings: Settings,
    servers: str,
    names: Names,
    partitions: Mapping[str, int],
    agents: Mapping[str, Agent],
    flags: FlagFollower,
    scorer: Scorer | None,
    transactional: bool,
    embedded: bool = False,
) -> Lane:
    """The lane that decides. Its state is only what `Surroundings` names and what each `DecisionWork` holds."""

    def ids_max() -> int:
        return max(1, settings.duplicate_ids_max // max(1, len(lane.loops)))

    async def restore(partition: int, answered: Answered) -> None:
        tp = TopicPartition(names.outcomes, partition)
        await flags.current.wait()  # a request must not be split by a flag that is not read yet
        await remember(servers, tp, answered, ids_max=ids_max(), window_s=settings.duplicate_window_s)

    around = Surroundings(
        names=names,
        runtimes=runtimes(agents, settings.bands),
        validator=Validator(agents, settings.request_bytes_max),
        flags=flags.flags,
        scorer=scorer,
        settings=settings,
        partitions=partitions,
        restore=restore,
        answered_max=ids_max,
        turn=asyncio.Lock(),
        observe=observe,
    )

    def factory(
        lane: Lane, number: int, owned: tuple[TopicPartition, ...]
    ) -> tuple[Work, Callable[[], Committer]]:
        work = DecisionWork(owned[0], around, lambda: lane.wake(number))

        def committer() -> Committer:
            deadline_ms = settings.transaction_deadline_ms
            if not transactional:
                return AtLeastOnce(
                    servers=servers, partitions=owned, deadline_ms=deadline_ms, consumer=lane.consumer
                )
            return Transactional(
                servers=servers,
                group=lane.group,
                # One id for each partition number: whoever takes it over fences the one before.
                transactional_id=f"{lane.group}-{names.requests}-{number}",
                partitions=owned,
                deadline_ms=deadline_ms,
                admin=lambda: lane.admin,
            )

        return work, committer

    lane = Lane(
        name="decisions",
        topics=[names.requests],
        watched=[names.outcomes],
        group=settings.group,
        servers=servers,
        settings=settings,
        factory=factory,
        static=embedded,
    )
    return lane
