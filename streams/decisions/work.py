"""`DecisionWork`: a batch of requests becomes outcomes. One instance for each partition that is owned."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

from pointsman.models.ml import BadModelOutput
from pointsman.models.split import even
from pointsman.schemas.control import Flag
from pointsman.schemas.summary import ArmSummary, Ledger
from pointsman.streams import metrics
from pointsman.streams.decisions.ask import Asked, Scorer, ask
from pointsman.streams.decisions.duplicates import Answered, key
from pointsman.streams.decisions.emit import Decided, Decision, emit, shadows, utc_now
from pointsman.streams.decisions.features import Computed, compute
from pointsman.streams.decisions.route import Counter, route
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.tally import Metadata, Tally, decode_metadata, encode_metadata
from pointsman.streams.decisions.trace import trace_id
from pointsman.streams.decisions.validate import Accepted, Checked, Rejected, Validator, letter
from pointsman.streams.flags import Flags
from pointsman.streams.model.client import ModelFailure
from pointsman.streams.output import Committed, Message, Output, Record
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names

logger = logging.getLogger(__name__)

SHADOW_ROWS_MAX: Final = 20_000
"""Shadow answers that may wait to be published; more are given up, so that memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all partitions of the lane share."""

    names: Names
    runtimes: Mapping[str, Runtime]
    validator: Validator
    flags: Flags
    scorer: Scorer | None
    settings: Settings
    partitions: Mapping[str, int]
    """Number of partitions by topic."""
    restore: Callable[[int, Answered], Awaitable[None]]
    """Fills the memory of answered ids from the outcomes of a partition."""
    answered_max: Callable[[], int]
    """Ids that one partition may remember."""
    turn: asyncio.Lock
    """Held by the partition that computes."""
    observe: Callable[[ArmSummary], None]
    """Takes the committed sums to the metrics."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One agent's part of a batch, before the model is asked."""

    runtime: Runtime
    computed: Computed
    candidates: list[bool]
    flag: Flag | None
    features_ms: float


@dataclass(slots=True)
class Draft:
    """A batch before its commit: nothing of it counts yet."""

    output: Output
    end: int | None
    even: dict[str, Counter]
    ledger: Ledger | None
    checked: Checked = field(default_factory=Checked)
    arms: list[Mapping[str, ArmSummary]] = field(default_factory=list)
    unasked: list[tuple[Runtime, list[Accepted], list[tuple[float, ...]]]] = field(default_factory=list)
    shadows_sent: int = 0
    summary_sent: bool = False
    token: int = field(default_factory=lambda: random.getrandbits(53))
    """Committed with the offsets, so that it can be told later whether this draft was committed."""


class DecisionWork:
    """Validate, features, route, ask, emit; state changes when the batch is committed, and not before."""

    def __init__(self, tp: TopicPartition, around: Surroundings, wake: Callable[[], None]) -> None:
        self._tp = tp
        self._around = around
        self._wake = wake
        self._answered: Answered | None = None
        self._even: dict[str, Counter] = {}
        self._ledger: Ledger | None = None
        self._position: int | None = None
        self._pending: Draft | None = None
        self._tally = Tally("decisions", around.settings.summary_interval_ms / 1000)
        self._outbox: list[Message] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._rows_asked = 0

    # -- state -----------------------------------------------------------------------------------

    async def restore(self, committed: Committed) -> None:
        """Fit the state to what was committed; whoever committed it."""
        at = committed.positions[self._tp]
        metadata = decode_metadata(committed.metadata)
        pending, self._pending = self._pending, None
        if self._answered is not None and pending is not None and metadata.token == pending.token:
            self._keep(pending)  # it was committed, only the answer was lost
        elif self._answered is None or at != self._position:
            settings = self._around.settings
            answered = Answered(self._around.answered_max(), settings.duplicate_window_s)
            await self._around.restore(self._tp.partition, answered)
            self._answered = answered
        self._position = at
        self._even = dict(metadata.even)
        self._ledger = metadata.ledger
        self._give_up_shadows("restart")

    async def close(self) -> None:
        """Shadow questions under way are dropped."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def due(self) -> float | None:
        """When there is something to publish without new requests."""
        return 0.0 if self._outbox else self._tally.due(self._ledger)

    # -- a batch ---------------------------------------------------------------------------------

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:
        """The whole output of a batch: outcomes, dead letters, escalations, shadows, summary, offset."""
        records = batch.get(self._tp, [])
        draft = self._draft(records)
        self._publish(draft, final=final)
        if records:
            await self._decide(records, draft)
        if not draft.output.messages and not records:
            return Output()
        if draft.end is not None:
            draft.output.positions = {self._tp: draft.end}
            draft.output.metadata = encode_metadata(
                Metadata(even=draft.even, ledger=draft.ledger, token=draft.token)
            )
        self._pending = draft
        draft.output.keep = lambda: self._keep(draft)
        return draft.output

    def _draft(self, records: list[Record]) -> Draft:
        end = records[-1].offset + 1 if records else self._position
        return Draft(output=Output(), end=end, even=dict(self._even), ledger=self._ledger)

    def _publish(self, draft: Draft, *, final: bool) -> None:
        """What was committed before and is not published yet."""
        names, number = self._around.names, self._tp.partition
        if self._outbox:
            draft.shadows_sent = len(self._outbox)
            draft.output.add(names.shadows, number, list(self._outbox))
        due = self._tally.due(self._ledger)
        if due is None or (due > 0 and not final):
            return
        draft.summary_sent = True
        count = self._around.partitions[names.summaries]
        for message in self._tally.messages(self._ledger):
            # All summaries of an agent meet in one partition, where the live tables add them up.
            draft.output.add(names.summaries, sum(message[0] or b"") % count, [message])
        if self._ledger is not None:
            end = self._ledger.end
            draft.ledger = Ledger(topic=self._tp.topic, partition=number, start=end, end=end)

    async def _decide(self, records: list[Record], draft: Draft) -> None:
        assert self._answered is not None, "restored before the first batch"
        around = self._around
        # One partition computes at a time and lets the event loop read its sockets in between: else the model's
        # answer to the first would wait until the last has computed, longer than its deadline.
        async with around.turn:
            checked = draft.checked = around.validator.check(records, self._answered)
            prepared = [
                self._prepare(around.runtimes[agent], requests, draft)
                for agent, requests in checked.accepted.items()
            ]
        # All agents' models at once: a batch waits for one deadline, however many agents are in it.
        asked = await asyncio.gather(*(self._ask(each) for each in prepared))
        async with around.turn:
            decided = [
                self._emit(each, answers, draft) for each, answers in zip(prepared, asked, strict=True)
            ]
        self._count(records, decided, draft)

    def _prepare(self, runtime: Runtime, requests: list[Accepted], draft: Draft) -> Prepared:
        agent = runtime.agent
        began = time.perf_counter()
        computed = compute(agent, requests)
        features_ms = (time.perf_counter() - began) * 1000
        _reject(draft, computed.bad)
        flag = self._around.flags.get(agent.flag)
        known = draft.even.get(agent.name)
        candidates, counter = route(computed.requests, flag, self._tp.partition, known)
        if counter is not None:
            draft.even[agent.name] = counter
        return Prepared(runtime, computed, candidates, flag, features_ms)

    async def _ask(self, prepared: Prepared) -> Asked:
        wanted = self._wanted(prepared.computed.requests, prepared.candidates)
        return await ask(self._around.scorer, prepared.runtime, prepared.computed.rows, wanted)

    def _emit(self, prepared: Prepared, asked: Asked, draft: Draft) -> Decided:
        decision = Decision(
            runtime=prepared.runtime,
            requests=prepared.computed.requests,
            rows=prepared.computed.rows,
            candidates=prepared.candidates,
            rules=prepared.computed.rules,
            asked=asked,
            flag=prepared.flag,
            features_ms=prepared.features_ms,
        )
        decided = emit(decision, utc_now())
        _reject(draft, decided.too_large)
        self._ask_later(decision, decided, draft)
        names, number = self._around.names, self._tp.partition
        draft.output.add(names.outcomes, number, decided.outcomes)
        draft.output.add(names.escalations, number, decided.escalations)
        draft.arms.append(decided.arms)
        return decided

    def _count(self, records: list[Record], decided: list[Decided], draft: Draft) -> None:
        """Dead letters, and the ledger over all that was read."""
        names, number, checked = self._around.names, self._tp.partition, draft.checked
        letters = [letter(each, self._around.settings.request_bytes_max) for each in checked.rejected]
        draft.output.add(names.dead_letters, number % self._around.partitions[names.dead_letters], letters)
        pending = sum(each.pending for each in decided)
        known = draft.ledger
        draft.ledger = Ledger(
            topic=self._tp.topic,
            partition=number,
            start=known.start if known else records[0].offset if self._position is None else self._position,
            end=records[-1].offset + 1,
            requests=(known.requests if known else 0) + len(records),
            outcomes=(known.outcomes if known else 0) + sum(len(each.outcomes) for each in decided) - pending,
            pending=(known.pending if known else 0) + pending,
            dead_letters=(known.dead_letters if known else 0) + len(letters),
            duplicates=(known.duplicates if known else 0) + sum(checked.duplicates.values()),
        )

    def _wanted(self, requests: list[Accepted], candidates: list[bool]) -> list[int]:
        """Places that the model is asked for now; the others' shadow answers ride along where that is sampled."""
        if not any(candidates):
            return []
        share = self._around.settings.shadow_percent
        if share >= 100:
            return list(range(len(candidates)))
        return [i for i, candidate in enumerate(candidates) if candidate or _sampled(requests[i], share)]

    def _ask_later(self, decision: Decision, decided: Decided, draft: Draft) -> None:
        """Note whom to ask once the batch is committed; nobody waits for these answers."""
        runtime, share = decision.runtime, self._around.settings.shadow_percent
        if runtime.card is None or not share:
            return
        if any(decision.candidates):  # they were asked along with the candidates, or not sampled
            if decision.asked.failure:
                missed = len(self._wanted(decision.requests, decision.candidates)) - sum(decision.candidates)
                metrics.SHADOWS_MISSED.labels(runtime.agent.name, decision.asked.failure).inc(missed)
            return
        places = [i for i in decided.unasked if share >= 100 or _sampled(decision.requests[i], share)]
        if places:
            requests = [decision.requests[i] for i in places]
            draft.unasked.append((runtime, requests, [decision.rows[i] for i in places]))

    # -- after the commit ------------------------------------------------------------------------

    def _keep(self, draft: Draft) -> None:
        assert self._answered is not None, "restored before the first batch"
        self._pending = None
        self._position = draft.end
        self._even = draft.even
        self._ledger = draft.ledger
        self._answered.keep(draft.checked.answered, time.monotonic())
        del self._outbox[: draft.shadows_sent]
        if draft.summary_sent:
            self._tally.published()
        for arms in draft.arms:
            for arm in arms.values():
                self._around.observe(arm)
            self._tally.add(arms)
        self._note(draft.checked)
        for runtime, requests, rows in draft.unasked:
            task = asyncio.create_task(self._shadow(runtime, requests, rows))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def _note(self, checked: Checked) -> None:
        for agent, count in checked.duplicates.items():
            metrics.DUPLICATES.labels(agent).inc(count)
        for each in checked.rejected:
            metrics.DEAD_LETTERS.labels("decisions", each.error.reason).inc()
            logger.warning(
                "dead letter",
                extra={
                    "request_id": each.request_id or None,
                    "reason": each.error.reason,
                    "field": each.error.field,
                    "topic": each.record.topic,
                    "partition": each.record.partition,
                    "offset": each.record.offset,
                    "trace_id": trace_id(each.record.headers),
                },
            )

    async def _shadow(
        self, runtime: Runtime, requests: list[Accepted], rows: list[tuple[float, ...]]
    ) -> None:
        agent = runtime.agent.name
        scorer = self._around.scorer
        if scorer is None or len(self._outbox) + self._rows_asked + len(rows) > SHADOW_ROWS_MAX:
            metrics.SHADOWS_MISSED.labels(agent, "busy" if scorer else "model_unavailable").inc(len(rows))
            return
        self._rows_asked += len(rows)
        try:
            answers = runtime.ml_answers((await scorer.score_shadow(agent, rows)).values, len(rows))
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: what escapes it is never heard of
            reason = _shadow_failure(error)
            metrics.SHADOWS_MISSED.labels(agent, reason).inc(len(rows))
            if reason == "model_error":
                logger.warning("no shadow answers", extra={"agent": agent, "error": repr(error)})
            return
        finally:
            self._rows_asked -= len(rows)
        self._outbox.extend(shadows(runtime, requests, answers, utc_now()))
        metrics.SHADOWS.labels(agent).inc(len(rows))
        self._wake()

    def _give_up_shadows(self, reason: str) -> None:
        if self._outbox:
            metrics.SHADOWS_MISSED.labels("any", reason).inc(len(self._outbox))
            self._outbox.clear()


def _sampled(accepted: Accepted, share: float) -> bool:
    """An even sample of a share in percent, by the request's place: the same whatever batch it comes in."""
    return even("shadow", accepted.record.partition, accepted.record.offset, share)


def _shadow_failure(error: Exception) -> str:
    if isinstance(error, ModelFailure):
        return error.reason
    return "model_bad_output" if isinstance(error, BadModelOutput) else "model_error"


def _reject(draft: Draft, rejected: list[Rejected]) -> None:
    """These requests get a dead letter and no outcome, so their ids stay free."""
    for each in rejected:
        draft.checked.rejected.append(each)
        draft.checked.answered.pop(key(each.request_id), None)
