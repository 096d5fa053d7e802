"""Samples of what members take from the machine, and lines in their logs that no fault of the plan explains."""

from __future__ import annotations

import json
import logging
import re
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg

from tests.chaos.stage import Stage

logger = logging.getLogger(__name__)

RSS_MAX_MB: Final = 300
"""What a worker may take at most, keyed state aside (its model process counts apart)."""
WARM_S: Final = 20.0
"""After that a worker has loaded, and seen, all that it loads."""
GROWTH_MAX_MB: Final = 40
"""From warm to the end. Allocators keep what one backlog took; a leak at 100 requests/s would take more."""

FDS_GROWTH_MAX: Final = 30
"""Partitions that move bring two connections each, and database connections come and go."""


@dataclass
class Sample:
    """One look at one process: seconds since the load began, MiB, file descriptors, process id."""

    at_s: float
    pid: int
    rss_mb: float
    fds: int


@dataclass
class Watch:
    """Samples by member, and by what else was looked at."""

    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    sessions: list[int] = field(default_factory=list)
    """Database connections of the product."""

    def look(self, stage: Stage, at_s: float) -> None:
        """Take a sample of each running member."""
        for name, member in stage.running().items():
            if member.process is None or member.process.ended() is not None:
                continue
            try:
                process = psutil.Process(member.process.pid)
                with process.oneshot():
                    rss, fds = process.memory_info().rss / 2**20, process.num_fds()
            except psutil.NoSuchProcess:
                continue
            self.samples[name].append(Sample(at_s, member.process.pid, rss, fds))
        try:
            self.sessions.append(len(stage.database.sessions()))
        except psycopg.OperationalError as error:  # that is a fault of the plan
            logger.debug("no look at the database: %s", error)

    def figures(self) -> dict[str, Any]:
        """Highest memory and descriptors, and growth of those that lived through."""
        every = [sample for samples in self.samples.values() for sample in samples]
        return {
            "rss_max_mb": round(max((sample.rss_mb for sample in every), default=0.0)),
            "rss_growth_mb": round(max((rss for _, rss, _ in self.growth()), default=0.0)),
            "fds_max": max((sample.fds for sample in every), default=0),
            "fds_growth": round(max((fds for _, _, fds in self.growth()), default=0.0)),
            "sessions_max": max(self.sessions, default=0),
        }

    def growth(self) -> list[tuple[str, float, float]]:
        """MiB and descriptors that each process grew by from warm to its end, where it lived long enough to say."""
        found = []
        for name, samples in self.samples.items():
            for pid in {sample.pid for sample in samples}:
                own = [sample for sample in samples if sample.pid == pid]
                warm = [sample for sample in own if sample.at_s - own[0].at_s > WARM_S]
                if len(warm) >= 8:
                    part = len(warm) // 4
                    rss, fds = (
                        statistics.median(getattr(sample, name_) for sample in warm[-part:])
                        - statistics.median(getattr(sample, name_) for sample in warm[:part])
                        for name_ in ("rss_mb", "fds")
                    )
                    found.append((name, rss, fds))
        return found

    def findings(self) -> Iterable[str]:
        """Too much, or growing."""
        most = self.figures()["rss_max_mb"]
        if most > RSS_MAX_MB:
            yield f"a worker took {most} MiB, more than {RSS_MAX_MB}"
        for name, rss, fds in self.growth():
            if rss > GROWTH_MAX_MB:
                yield f"{name} grew by {rss:.0f} MiB after it was warm"
            if fds > FDS_GROWTH_MAX:
                yield f"{name} holds {fds:.0f} descriptors more than when it was warm"


ANY: Final = frozenset({"*"})
BROKER: Final = frozenset({"broker"})
DATABASE: Final = frozenset({"database"})
MOVES: Final = frozenset({"worker", "sink", "lag", "broker", "clock"})
"""What moves partitions, or makes a member look dead to the others."""
EXPLAINED: Final = (
    # a new broker makes its groups' topic when the first group comes; and each coordinator begins by loading
    (r"aiokafka\.consumer\.group_coordinator: .*GroupCoordinatorNotAvailableError", ANY),
    (r"aiokafka\.consumer\.group_coordinator: .*(GroupLoadInProgress|CoordinatorLoadInProgress)", ANY),
    # not the error: that is the line at its end, which is looked at too
    (r"^Traceback \(most recent call last\):$", ANY),
    # a worker that is started meanwhile
    (r"pointsman: (no Kafka broker answers|Kafka at .* stopped answering during the start)", BROKER),
    (r"asyncio: Unclosed AIOKafkaConsumer", BROKER),
    # made while the broker went, and given up with its deadline; it closes as it is collected
    (r"asyncio: Unclosed AIOKafkaConnection", BROKER),
    (r"asyncio: Task was destroyed but it is pending!\s.*AIOKafkaConnection\._read", BROKER),
    (
        r"aiokafka\.conn: Unexpected exception in AIOKafkaConnection RuntimeError: cannot reuse already awaited coroutine",
        BROKER,
    ),
    # the library's futures and tasks of a producer that was given up: nothing else can ask for them
    (
        r"asyncio: (Future|Task) exception was never retrieved\s.*(Producer(Fenced|Expelled|Closed)|KeyError\(<aiokafka|during batch delivery)",
        MOVES,
    ),
    # a broker that stood still has lost its partitions until it has told the controller that it is back
    (r"aiokafka\.consumer\.fetcher: Failed fetch offsets from .*NotLeaderForPartitionError", BROKER),
    # of a batch that waited for a partition's leader for longer than its deadline: its producer is given up by then
    (r"asyncio: Future exception was never retrieved\s.*LeaderNotAvailableError", BROKER),
    # what the broker answered to the end of a transaction whose owner stood still; the partition begins anew
    (
        r"aiokafka\.producer\.sender: (Could not end transaction|Unexpected error in sender routine).*UnknownError",
        MOVES,
    ),
    # of a process that stood still
    (r"faust\..*Thread keepalive is not responding", MOVES),
    # the library's own words for a broker that is away or does not answer
    (r"aiokafka: Unable (to )?(connect|update metadata)", BROKER),
    (r"aiokafka(\.\w+)*: .*(NodeNotReady|KafkaConnectionError|RequestTimedOut|NotReady|closed)", MOVES),
    (r"aiokafka\.consumer\.group_coordinator: (Heartbeat session expired|.*marking coordinator dead)", MOVES),
    (
        r"aiokafka\.consumer\.group_coordinator: .*(rebalanc|generation|UnknownMember|IllegalGeneration)",
        MOVES,
    ),
    (
        r"pointsman\.streams\.partition: partition begins anew (Fenced|Expelled|PositionConflict|Kafka|Node|Timeout)",
        MOVES,
    ),
    (r"pointsman\.streams\.partition: partition begins anew .*(RequestTimedOut|Coordinator|NotReady)", MOVES),
    # its consumer runs in a thread of Faust's, which prints what ended it; another app takes its place
    (r"^'AIOKafkaConsumerThread' crashed|^Exception in thread", BROKER),
    (r"^faust\..*Crashed reason=Kafka", BROKER),
    (r"pointsman\.streams\.control: the control plane is down", BROKER),
    (r"pointsman\.streams\.partition: partition begins anew InvalidTimestampError", frozenset({"clock"})),
    (r"pointsman\.streams\.partition: partition begins anew StoreUnavailable", DATABASE),
    (
        r"pointsman\.streams\.model\.process: the model process (\d+ hangs|ended with code)",
        frozenset({"model"}),
    ),
)
"""An error in a log, and the groups of faults that explain it."""


def unexplained(logs: Iterable[Path], kinds: Collection[str]) -> dict[str, int]:
    """Errors in the members' logs that no fault of the plan explains, with how often they stand there."""
    groups = {kind.partition("_")[0] for kind in kinds} | ANY
    found: dict[str, int] = defaultdict(int)
    for log in logs:
        for line in log.read_text(errors="replace").splitlines():
            words = _error(line)
            if words and not any(
                re.search(pattern, words) and groups & reasons for pattern, reasons in EXPLAINED
            ):
                found[words] += 1
    return dict(found)


def _error(line: str) -> str:
    """What a line says when it is an error or a traceback; else nothing."""
    try:
        event = json.loads(line)
    except ValueError:
        return line[:300] if line.strip() and not line.startswith((" ", "\t")) else ""
    if not isinstance(event, dict) or event.get("level") not in ("error", "critical"):
        return ""
    error = str(event.get("error") or "") or str(event.get("exception") or "").strip().rpartition("\n")[2]
    return f"{event.get('logger')}: {event.get('event')} {error}"[:300]
