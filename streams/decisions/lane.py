"""The decision lane: `Lane` with the decision work, committed in transactions that its partitions share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from aiokafka import TopicPartition

from pointsman.models.agent import Agent
from pointsman.models.state import DAY_S, Limits
from pointsman.streams import layout
from pointsman.streams.commit import AtLeastOnce, Committer
from pointsman.streams.decisions.ask import Scorer
from pointsman.streams.decisions.duplicates import Answered
from pointsman.streams.decisions.latency import observe
from pointsman.streams.decisions.placed import PlacedWork
from pointsman.streams.decisions.remember import remember
from pointsman.streams.decisions.runtime import runtimes
from pointsman.streams.decisions.turn import Turn
from pointsman.streams.decisions.validate import Validator
from pointsman.streams.decisions.work import DecisionWork, Surroundings
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.membership import Member
from pointsman.streams.partition import Work
from pointsman.streams.settings import Settings
from pointsman.streams.shared import Shared
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.state.restore import restore as read_back
from pointsman.streams.state.snapshot import Snapshot
from pointsman.streams.together import Together
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
        restore_state=lambda number, state: read_back(servers, TopicPartition(names.state, number), state),
        answered_max=ids_max,
        turn=Turn(),
        observe=observe,
        state=lambda number: _state(lane, names, agents, number, transactional=transactional),
    )
    # Labels of a unit lie in the partition of its requests, so whoever decides with them learns from them there.
    learns = [names.feedback] if any(agent.state for agent in agents.values()) else []

    def factory(
        lane: Lane, number: int, owned: tuple[TopicPartition, ...]
    ) -> tuple[Work, Callable[[], Committer]]:
        requests = next(tp for tp in owned if tp.topic == names.requests)
        decides = DecisionWork(requests, around, lambda: lane.wake(number))
        placed = learns and not embedded
        work: Work = _placed(decides, lane, names, number, partitions) if placed else decides
        return work, partial(_committer, lane, owned, number, transactional=transactional, embedded=embedded)

    delays_s = _delays(names, settings)
    lane = Lane(
        name="decisions",
        # One loop reads the requests of a partition and what waits of them: so the memory of
        # answered ids, the split and the ledger know both.
        topics=[names.requests, *learns, *delays_s],
        delays_s=delays_s,
        watched=[names.outcomes, *([names.state] if learns else [])],
        group=settings.group,
        servers=servers,
        settings=settings,
        factory=factory,
        static=embedded,
        at_once=settings.batches_at_once_max,
        share=shared if transactional else None,
        begin=None if embedded else partial(_begin, names, partitions),
        led=True,
    )
    return lane


def _state(
    lane: Lane, names: Names, agents: Mapping[str, Agent], partition: int, *, transactional: bool
) -> PartitionState:
    """Empty; with a snapshot of the topic as the lane knows it, where that is written in transactions."""
    shape = lane.watch.known.get(names.state)
    # Another set of agents, or of what they keep, has a file of its own: this one lacks what is not loaded.
    versions = sorted((name, agent.state.version) for name, agent in agents.items() if agent.state)
    of = hashlib.sha256(repr(versions).encode()).hexdigest()[:8]
    kept = snapshot(lane.settings, f"{shape.id}-{of}" if shape and transactional else "", partition)
    return PartitionState(agents, limits(lane.settings), snapshot=kept, at_least_once=not transactional)


async def _begin(names: Names, partitions: Mapping[str, int], lane: Lane) -> None:
    """Raises `TopicProblem` where what is kept of units lies as for another number of partitions."""
    await layout.verify(lane.admin, lane.group, names, lane.watch.known, partitions[names.requests])


def _placed(
    work: DecisionWork, lane: Lane, names: Names, number: int, partitions: Mapping[str, int]
) -> PlacedWork:
    """The same, for units that belong to the partition as the lane knows the topics."""
    inputs = (names.requests, names.feedback)
    return PlacedWork(work, number, partitions[names.requests], lambda: lane.watch.verify(lane.admin, inputs))


def snapshot(settings: Settings, of: str, partition: int) -> Snapshot | None:
    """Where a partition's state is kept locally, of a topic and its agents; None where the changelog is not written in the outcomes' transactions."""
    return Snapshot(Path(settings.data_dir) / "state", of, partition) if of else None


def _delays(names: Names, settings: Settings) -> dict[str, float]:
    """Delay topics, and how many seconds their records wait."""
    return {topic: each / 1000 for topic, each in zip(names.retries, settings.retry_delays_ms, strict=True)}


def limits(settings: Settings) -> Limits:
    """Bounds of keyed state."""
    return Limits(
        values_per_unit=settings.state_values_per_unit_max,
        units=settings.state_units_max,
        notes=settings.state_notes_max,
        ttl_s=settings.state_ttl_days * DAY_S,
    )


def _committer(
    lane: Lane, owned: tuple[TopicPartition, ...], number: int, *, transactional: bool, embedded: bool
) -> Committer:
    if transactional:
        assert lane.together is not None, "made before the loops of an assignment"
        return Shared(lane.together, number, owned)
    return AtLeastOnce(
        servers=lane.servers,
        group=lane.group,
        partitions=owned,
        settings=lane.settings,
        consumer=lane.consumer,
        admin=None if embedded else lambda: lane.admin,
    )


def shared(lane: Lane, member: Member, numbers: list[int]) -> Together:
    """The transactions of an assignment. Their ids begin with group and topic, for access lists."""
    return Together(
        servers=lane.servers,
        group=lane.group,
        prefix=f"{lane.group}-{lane.topics[0]}",
        settings=lane.settings,
        admin=lambda: lane.admin,
        member=member,
        numbers=numbers,
    )
