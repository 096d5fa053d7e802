"""Live figures: a Faust agent adds lane summaries up in windowed tables; no database is needed to read them.

At least once: after a crash of the control plane a summary may count twice here. The database is the truth.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import faust
import msgspec
from aiokafka.admin import NewTopic

from pointsman.schemas.codec import Decoder
from pointsman.schemas.latency import quantile_ms
from pointsman.schemas.summary import ArmSummary, Summary
from pointsman.streams.decisions.tally import merge
from pointsman.streams.topics import connect, ensure

logger = logging.getLogger(__name__)

ARMS: Final = ("candidate", "control")
MINUTE_S: Final = 60
HOUR_S: Final = 3600
LEDGER: Final = "_ledger"
_decoder = Decoder(Summary)


class Live:
    """Two windowed tables, by minute for an hour and by hour for a day, and the figures read from them."""

    def __init__(self, app: faust.App, topic: str, agents: Iterable[str]) -> None:
        self.app = app
        self.agents = tuple(sorted(agents))
        self.partitions = int(app.conf.topic_partitions)
        """Of the tables' topics: as many as the summaries have."""
        self.minutes = self._table(app, "live-minutes", MINUTE_S, HOUR_S + 2 * MINUTE_S)
        self.hours = self._table(app, "live-hours", HOUR_S, 25 * HOUR_S)
        channel = app.topic(
            topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        app.agent(channel, name="live")(self._follow)

    async def declare(self, servers: str, replication: int) -> None:
        """Make the tables' topics and wait until the broker shows them. Raises `TopicProblem`.

        Faust makes them too, but asks for its partitions at once: where the broker does not show a new topic yet,
        it goes without until the next rebalance, and no summary is added up.
        """
        admin = await connect(servers)
        try:
            await ensure(
                admin,
                [_new_topic(table.changelog_topic, self.partitions, replication) for table in self._tables],
            )
        finally:
            await admin.close()

    @property
    def _tables(self) -> tuple[Any, ...]:
        return (self.minutes.table, self.hours.table)

    @staticmethod
    def _table(app: faust.App, name: str, size_s: float, expires_s: float) -> Any:
        return app.Table(name, default=dict).tumbling(size_s, expires=expires_s)

    async def _follow(self, stream: faust.StreamT[bytes]) -> None:
        async for value in stream:
            # Faust acknowledges an event whose agent raised, and ends the agent: so nothing may escape.
            try:
                self._add(_decoder.decode(value))
            except Exception as error:  # noqa: BLE001 - as said
                logger.error("a summary was not added up", extra={"error": repr(error)})

    def _add(self, summary: Summary) -> None:
        for arm in summary.arms:
            key = f"{arm.agent}/{arm.arm}"
            for table in (self.minutes, self.hours):
                known = load(table[key].current())
                if known is not None:
                    merge(known, arm)
                stored = dump(known or arm)
                load(stored)  # a sum that could not be read again would stand in the table's way for a day
                table[key] = stored

    def figures(self) -> dict[str, Any]:
        """Per agent and arm, figures over the last minute, hour and day."""
        return {
            agent: {
                arm: {
                    "last_minute": self._sum(self.minutes, f"{agent}/{arm}", MINUTE_S, 2),
                    "last_hour": self._sum(self.minutes, f"{agent}/{arm}", MINUTE_S, 60),
                    "last_day": self._sum(self.hours, f"{agent}/{arm}", HOUR_S, 24),
                }
                for arm in ARMS
            }
            for agent in self.agents
        }

    def _sum(self, table: Any, key: str, size_s: int, windows: int) -> dict[str, Any] | None:
        total: ArmSummary | None = None
        now = time.time()
        for back in range(windows):
            # Outside of an agent there is no current event for `table[key].delta()` to be relative to.
            (at,) = table.table.window.ranges(now - back * size_s)
            part = load(table.table.get((key, at)))
            if part is None:
                continue
            if total is None:
                total = part
            else:
                merge(total, part)
        return None if total is None else describe(total)


def dump(arm: ArmSummary) -> dict[str, Any]:
    """As the table keeps it: plain and fit for JSON, so keys are strings."""
    return dict(msgspec.to_builtins(arm, str_keys=True))


def _new_topic(changelog: Any, partitions: int, replication: int) -> NewTopic:
    """A table's topic as Faust would make it: newest value of a key, for as long as its window counts."""
    cleanup = ["compact"] * bool(changelog.compacting) + ["delete"] * bool(changelog.deleting)
    config = {"cleanup.policy": ",".join(cleanup or ["compact"])}
    if changelog.retention:
        config["retention.ms"] = str(int(changelog.retention * 1000))
    return NewTopic(
        changelog.get_topic_name(), partitions, replication, topic_configs=config | (changelog.config or {})
    )


def load(value: Mapping[str, Any] | None) -> ArmSummary | None:
    """As `dump` wrote it; None where the window is empty."""
    return msgspec.convert(value, ArmSummary, str_keys=True, strict=False) if value else None


def describe(arm: ArmSummary) -> dict[str, Any]:
    """The figures that people read."""
    n = arm.decisions
    return {
        "decisions": n,
        "by_ml": arm.by_ml,
        "fallbacks": dict(arm.fallbacks),
        "validations": arm.validations,
        "escalations": arm.escalations,
        "confidence_mean": round(arm.confidence_sum / n, 4) if n else None,
        "agreement": round(arm.agreements / arm.both_answered, 4) if arm.both_answered else None,
        "latency_p50_ms": quantile_ms(arm.latency, 0.50),
        "latency_p95_ms": quantile_ms(arm.latency, 0.95),
        "latency_p99_ms": quantile_ms(arm.latency, 0.99),
    }
