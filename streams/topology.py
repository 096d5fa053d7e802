"""READ FIRST: what runs in a worker, in the order of a decision's way. No logic here.

decision-requests ─> [decisions] ─> decision-outcomes, -shadows, -escalations, -dead-letters, -summaries
          decision-retries-5s, -15s, -30s ─┘ └─> decision-retries-…: what is tried again
decision-outcomes, -shadows, -feedback, -dead-letters, -summaries ─> [sink] ─> ml_learning.*
decision-summaries ─> [live] ─> windowed tables ─> /live, `pointsman status`
control-flags ─> [flags] ─> the split of every decision lane
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mode import Service

from pointsman.models.agent import Agent
from pointsman.schemas.errors import InvalidSetting
from pointsman.streams.app import create_app
from pointsman.streams.control import ControlPlane
from pointsman.streams.decisions.ask import Scorer
from pointsman.streams.decisions.lane import decision_lane
from pointsman.streams.flags import FlagFollower
from pointsman.streams.lane import Lane
from pointsman.streams.live import Live
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names

if TYPE_CHECKING:
    from pointsman.streams.sink import SinkLane


@dataclass(slots=True)
class Topology:
    """The parts of one worker; those that its settings leave out are None."""

    flags: FlagFollower | None = None
    decisions: Lane | None = None
    sink: SinkLane | None = None
    control: ControlPlane | None = None

    def services(self) -> list[Service]:
        """The lanes and what they follow, in the order of starting."""
        return [part for part in (self.flags, self.decisions, self.sink) if part is not None]


def build(
    settings: Settings,
    agents: dict[str, Agent],
    *,
    servers: str,
    dsn: str,
    cluster: str,
    embedded: bool,
    scorer: Scorer | None,
    partitions: dict[str, int],
) -> Topology:
    """Build a worker's parts. ``partitions``: topic to number of partitions; ``cluster``: Kafka's id."""
    names = Names.of(settings)
    shared: dict[str, Any] = {
        "settings": settings,
        "servers": servers,
        "names": names,
        "partitions": partitions,
        "embedded": embedded,
    }
    parts = Topology()

    if "decisions" in settings.lanes:
        # control-flags -> the current flags
        parts.flags = FlagFollower(servers, names.flags)
        # decision-requests -> outcomes: exactly once, or at least once where the broker cannot
        parts.decisions = decision_lane(
            agents=agents,
            flags=parts.flags,
            scorer=scorer,
            transactional=exactly_once(settings, embedded),
            **shared,
        )

    if "sink" in settings.lanes:
        # outcomes, shadow answers, feedback, dead letters, ledgers -> rows, exactly once by offsets in the database
        from pointsman.models.measure import measure_of  # noqa: PLC0415
        from pointsman.models.watch import watched  # noqa: PLC0415
        from pointsman.streams.sink import sink_lane  # noqa: PLC0415 - a worker that only decides needs no driver

        measures = [measure_of(agent) for agent in agents.values()]
        parts.sink = sink_lane(
            dsn=dsn, cluster=cluster, measures=measures, watched=watched(agents.values()), **shared
        )

    if "live" in settings.lanes:
        # decision-summaries -> windowed figures, in tables that must have as many partitions as their source
        wanted = partitions.get(names.summaries, settings.partitions)
        parts.control = ControlPlane(
            lambda: Live(
                create_app(settings, servers, embedded=embedded, partitions=wanted), names.summaries, agents
            ),
            # The embedded broker makes a topic when it is first asked for.
            None if embedded else lambda live: live.declare(servers, settings.replication),
        )

    return parts


def exactly_once(settings: Settings, embedded: bool) -> bool:
    """Whether decisions are made exactly once here. Raises `InvalidSetting` where that is asked for and cannot be."""
    if settings.delivery == "exactly_once" and embedded:
        raise InvalidSetting("delivery", "auto or at_least_once: the embedded broker has no transactions")
    return settings.delivery != "at_least_once" and not embedded
