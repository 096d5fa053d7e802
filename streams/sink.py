"""The sink lane: outcomes, shadow answers, feedback, ledgers and dead letters become rows, exactly once.

Its positions lie in the database, moved in the transaction of the rows; a database that is down holds the
lane up and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition

from pointsman.models.drift import Limits
from pointsman.models.satisfaction import WEIGHTS
from pointsman.schemas.codec import to_builtins
from pointsman.streams import metrics
from pointsman.streams.commit import Committer
from pointsman.streams.condition import of_lane
from pointsman.streams.drifts import DRIFTS
from pointsman.streams.errors import PositionConflict
from pointsman.streams.lane import Lane
from pointsman.streams.output import Committed, Output
from pointsman.streams.partition import Work
from pointsman.streams.producer import close, send
from pointsman.streams.settings import Settings
from pointsman.streams.sink_work import LANE, SinkWork
from pointsman.streams.standing import STANDINGS
from pointsman.streams.store.audit import AuditStore
from pointsman.streams.store.batch import SinkBatch
from pointsman.streams.store.check import ledger_check
from pointsman.streams.store.drift import Watch
from pointsman.streams.store.errors import OffsetConflict, StoreUnavailable
from pointsman.streams.topics import Names

if TYPE_CHECKING:
    from pointsman.models.measure import Measure
    from pointsman.models.watch import Watched

logger = logging.getLogger(__name__)

INTERVAL_MS: Final = 200
"""Rows are readable so much later at most; larger batches cost the database less."""
LEDGER_EVERY_S: Final = 30.0
LEDGER_GRACE_S: Final = 60.0
"""Ledgers and outcomes come by different topics; within a minute both are here, or one is late enough to say so."""
LEDGER_WITHIN_S: Final = 3600.0
"""Looked at each time; a check of everything is `pointsman db check`."""
LEDGER_LOGGED_MAX: Final = 10
SWEEP_EVERY_S: Final = 5.0
"""Between two looks for decisions of which something was learned before they were known."""
COUNTED_EVERY: Final = 12
"""Every so many times those that are still not known are counted: a minute, for there may be many."""
ROLL_UP_EVERY_S: Final = 60.0
"""Between two merges of the minutes that are over: what is not merged costs whoever looks at a dashboard."""
FORGET_EVERY: Final = 60
"""Every so many times hours that are past their retention go."""
STANDINGS_EVERY_S: Final = 15.0
"""Between two looks at success and satisfaction: as often as Prometheus usually asks."""
DRIFT_EVERY_S: Final = 60.0
"""Between two looks at the drift of what models are asked."""
TOPIC_STRIDE: Final = 1_000_000
"""More than a topic has partitions: each topic's partition is a loop of its own here."""


class SinkLane(Lane):
    """A lane whose loops each hold one partition of one topic: their positions are compared one by one."""

    def __init__(
        self, *, store: AuditStore, measures: Sequence[Measure] = (), watch: Watch, **options: Any
    ) -> None:
        """``measures``: of the agents that this worker knows; ``watch``: those whose drift is watched."""
        super().__init__(**options)
        self.store = store
        self._measures = measures
        self._drift = watch
        self.ledger_differences: int | None = None
        """None until the first check."""

    def number_of(self, tp: TopicPartition) -> int:
        """A number for each topic and partition."""
        return self.topics.index(tp.topic) * TOPIC_STRIDE + int(tp.partition)

    async def on_start(self) -> None:
        """Connect to Kafka; the database may come later."""
        await self.store.open()
        await super().on_start()

    def health(self) -> dict[str, object]:
        """Of the lane; the ledger's differences are an alarm, not an illness of this process."""
        return super().health() | {"ledger_differences": self.ledger_differences}

    def up_to_date(self) -> bool:
        """Whether this sink serves partitions and has no backlog: in one, ledgers are written before their outcomes."""
        report = super().health()
        return bool(report["partitions"]) and of_lane(report, self.settings.batch_records_max) == "ok"

    @Lane.task
    async def _check_ledger(self) -> None:
        """The conservation law over the last hour: whatever differs was lost or doubled."""
        while not self.should_stop:
            await self.sleep(LEDGER_EVERY_S)
            if not self.up_to_date():
                logger.debug("the ledger is not checked while rows are behind it")
                continue
            try:
                async with self.store.connection() as connection:
                    differences = await ledger_check(connection, LEDGER_GRACE_S, LEDGER_WITHIN_S)
            except StoreUnavailable as error:
                logger.warning("the ledger could not be checked", extra={"error": str(error)})
                continue
            self.ledger_differences = len(differences)
            metrics.LEDGER.labels("decisions").set(len(differences))
            for each in differences[:LEDGER_LOGGED_MAX]:
                logger.error("the ledger does not close", extra=to_builtins(each))

    @Lane.task
    async def _sweep(self) -> None:
        """Feedback whose decision was not known when it came."""
        for rounds in count():
            await self.sleep(SWEEP_EVERY_S)
            if self.should_stop:
                return
            try:
                await self.store.sweep()
                if rounds % COUNTED_EVERY:
                    continue
                waiting = await self.store.waiting()
            except StoreUnavailable as error:
                logger.debug("feedback was not looked through: %s", error)
                continue
            metrics.FEEDBACK_WAITING.set(waiting.looked_for)
            metrics.FEEDBACK_UNKNOWN.set(waiting.given_up)

    @Lane.task
    async def _roll_up(self) -> None:
        """Merge what the partitions wrote of minutes that are over, and keep the sums of their hours."""
        days = self.settings.aggregate_retention_days
        for rounds in count():
            await self.sleep(ROLL_UP_EVERY_S)
            if self.should_stop:
                return
            try:
                metrics.ROLLED_UP.inc(await self.store.roll_up())
                if days and rounds % FORGET_EVERY == 0:
                    await self.store.forget_hours(days)
            except StoreUnavailable as error:
                logger.debug("minutes were not merged: %s", error)

    @Lane.task
    async def _judge(self) -> None:
        """Tell the database what success and satisfaction are made of, then both to the metrics again and again."""
        weights, told = {**WEIGHTS, **self.settings.satisfaction}, False
        while not self.should_stop:
            try:
                if not told:
                    await self.store.tell(self._measures, weights)
                    told = True
                STANDINGS.show(await self.store.standings())
            except StoreUnavailable as error:
                STANDINGS.show([])  # rather nothing than what was true once
                logger.debug("success and satisfaction are not known: %s", error)
            await self.sleep(STANDINGS_EVERY_S if told else SWEEP_EVERY_S)

    @Lane.task
    async def _look_for_drift(self) -> None:
        """Compare the last hours with what models were trained on, for rows and metrics."""
        settings = self.settings
        hours, days = settings.drift_window_h, settings.aggregate_retention_days
        limits = Limits(
            decisions=settings.drift_decisions_min,
            effect=settings.drift_effect_min,
            alpha=settings.drift_alpha,
        )
        looks = 0
        while self._drift and not self.should_stop:
            try:
                DRIFTS.show(await self.store.drifts(limits, hours))
                if looks % FORGET_EVERY == 0:
                    await self.store.forget_drift(hours, days)
                looks += 1
            except StoreUnavailable as error:
                DRIFTS.show([])  # rather nothing than what was true once
                logger.debug("drift is not known: %s", error)
            await self.sleep(DRIFT_EVERY_S if looks else SWEEP_EVERY_S)

    async def on_stop(self) -> None:
        """Drain, then let the database go."""
        await super().on_stop()
        await self.store.close()


class Database(Committer):
    """Rows and position in one database transaction; dead letters go to Kafka first, at least once."""

    def __init__(
        self, store: AuditStore, tp: TopicPartition, cluster: str, generation: str, servers: str
    ) -> None:
        self._store = store
        self._generation = generation
        self._tp = tp
        self._cluster = cluster
        self._servers = servers
        self._producer: AIOKafkaProducer | None = None

    async def open(self) -> Committed:
        """End what a stalled owner left open, then read the position."""
        try:
            at = await self._store.take_over(
                LANE, self._cluster, self._tp.topic, self._tp.partition, self._generation
            )
        except StoreUnavailable:
            metrics.DATABASE_UP.set(0)
            raise
        metrics.DATABASE_UP.set(1)
        return Committed({self._tp: at})

    async def begin(self) -> None:
        """There is nothing to be done ahead."""

    async def commit(self, output: Output) -> None:
        """Write the batch, moving the position from its start to its end; `PositionConflict` if it is not there."""
        if output.messages:
            await self._send(output)
        assert isinstance(output.payload, SinkBatch), "the sink's work makes these"
        try:
            result = await self._store.write(output.payload)
        except OffsetConflict as error:
            raise PositionConflict(str(error)) from error
        except StoreUnavailable:
            metrics.DATABASE_UP.set(0)
            raise
        metrics.SINK_DOUBLES.inc(result.duplicates)
        for each in result.unfit:
            metrics.FOREIGN.labels(self._tp.topic).inc()
            place = {"topic": self._tp.topic, "partition": self._tp.partition}
            logger.error(
                "no table can hold a message; passed over",
                extra={**place, "of": each.name, "error": each.why},
            )

    async def _send(self, output: Output) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._servers, acks="all", enable_idempotence=True, linger_ms=0
            )
            await self._producer.start()
        for future in await send(self._producer, output.messages):
            await future

    async def close(self) -> None:
        """Close the producer, if one was needed."""
        if self._producer is not None:
            await close(self._producer)
            self._producer = None


def sink_lane(
    *,
    settings: Settings,
    servers: str,
    names: Names,
    partitions: Mapping[str, int],
    dsn: str,
    cluster: str,
    measures: Sequence[Measure] = (),
    watched: Sequence[Watched] = (),
    embedded: bool = False,
) -> SinkLane:
    """The lane that writes rows. ``cluster`` is Kafka's id: offsets of another cluster mean nothing here.

    ``measures``, ``watched``: of the agents that this worker knows, and of those whose models say what they were trained on.
    """

    def factory(
        lane: Lane, _number: int, owned: tuple[TopicPartition, ...]
    ) -> tuple[Work, Callable[[], Committer]]:
        (tp,) = owned
        generation = lane.watch.known[tp.topic].id
        dead_letters, bytes_max = partitions[names.dead_letters], settings.request_bytes_max
        work = SinkWork(tp, names, cluster, dead_letters, bytes_max, generation, settings.feedback_keys)
        return work, lambda: Database(store, tp, cluster, generation, lane.servers)

    watch = Watch(watched, settings.drift_sample_percent)
    unwatched = {each.agent for each in measures} - {each.watched.agent for each in watch.agents()}
    if unwatched:
        logger.info(
            "no drift watch: no model, no reference in its card, or no sample",
            extra={"agents": sorted(unwatched)},
        )
    store = AuditStore(dsn, watch=watch)
    return SinkLane(
        store=store,
        measures=measures,
        watch=watch,
        name=LANE,
        topics=[names.outcomes, names.shadows, names.feedback, names.summaries, names.dead_letters],
        group=f"{settings.group}-sink",
        servers=servers,
        settings=settings,
        factory=factory,
        interval_ms=INTERVAL_MS,
        static=embedded,
    )
