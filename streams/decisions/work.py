"""`DecisionWork`: a batch of requests becomes outcomes. One instance for each partition that is owned."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from aiokafka import TopicPartition

from pointsman.models.state import Limits
from pointsman.schemas.codec import encode
from pointsman.schemas.retry import HEADER_KEPT
from pointsman.schemas.summary import ArmSummary, Ledger
from pointsman.streams import metrics
from pointsman.streams.decisions.ask import Asked, Questions, Scorer
from pointsman.streams.decisions.draft import Draft, Group, Groups, Part, Prepared, decision_of, pieces
from pointsman.streams.decisions.duplicates import Answered
from pointsman.streams.decisions.emit import Decided, Decision, Emitter, in_order, utc_now
from pointsman.streams.decisions.features import Computed
from pointsman.streams.decisions.later import Later
from pointsman.streams.decisions.note import note
from pointsman.streams.decisions.retry import Retries, all_returned, kept_of, sent_again
from pointsman.streams.decisions.route import Counter, route, sampled
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.tally import Metadata, Tally, decode_metadata, encode_metadata
from pointsman.streams.decisions.turn import Turn
from pointsman.streams.decisions.validate import Accepted, Checked, Validator, letter
from pointsman.streams.decisions.wire import Moment
from pointsman.streams.flags import Flags
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.settings import Settings
from pointsman.streams.state.partition import PartitionState
from pointsman.streams.topics import Names

logger = logging.getLogger(__name__)

STRETCH_RECORDS: Final = 500
"""Computed at a stretch, some 10 ms: one partition computes at a time, and in between the event loop serves its
sockets. Else a question would wait half sent, and the model's answer unread, for longer than its deadline."""
SLICE_RECORDS: Final = 100
"""Read, then computed, before the next are read: what was decoded lies in the processor's caches so long."""
SLICE_ROWS: Final = 20
"""An agent's requests are computed once there are so many, and the rest at the end: a call for two or three costs half as
much as what it computes."""
GROUP_ROWS: Final = 100
"""An agent with so many requests is asked after a stretch; one with fewer, which would pay what a question costs for a
handful, once for the whole batch."""


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
    state: Callable[[int], PartitionState]
    """A new, empty keyed state of a partition."""
    restore_state: Callable[[int, PartitionState], Awaitable[object]]
    """Fills one from the changelog of a partition."""
    answered_max: Callable[[], int]
    """Ids that one partition may remember."""
    turn: Turn
    """Held by the partition that computes."""
    observe: Callable[[ArmSummary], None]
    """Takes the committed sums to the metrics."""


class DecisionWork:
    """Validate, features, route, ask, emit; state changes when the batch is committed, and not before."""

    def __init__(self, tp: TopicPartition, around: Surroundings, wake: Callable[[], None]) -> None:
        self._tp = tp
        self._around = around
        self._retries = Retries(around.settings, around.names)
        self._answered: Answered | None = None
        self._state = PartitionState({}, Limits())  # nothing, until it is restored
        self._feedback = TopicPartition(around.names.feedback, tp.partition)
        self._even: dict[str, Counter] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._positions: dict[TopicPartition, int | None] = {}
        self._token = 0
        self._pending: Draft | None = None
        self._tally = Tally("decisions", around.settings.summary_interval_ms / 1000)
        self._later = Later(around.scorer, wake)

    # -- state -----------------------------------------------------------------------------------

    async def restore(self, committed: Committed) -> None:
        """Fit the state to what was committed; whoever committed it."""
        metadata = decode_metadata(committed.metadata)
        pending = self._pending
        if self._answered is not None and pending is not None and metadata.token == pending.token:
            # It was committed, only the answer was lost or came too late; what it wrote is read back with all before it.
            await self._restore_state()
            pending.ends = {}
            self._keep(pending)
        elif self._answered is None or self._moved(committed, metadata.token):
            settings = self._around.settings
            answered = Answered(self._around.answered_max(), settings.duplicate_window_s)
            await self._around.restore(self._tp.partition, answered)
            await self._restore_state()
            self._answered = answered
        self._pending = None
        self._positions = dict(committed.positions)
        self._token = metadata.token
        self._even = dict(metadata.even)
        self._ledgers = {each.topic: each for each in (metadata.ledger, *metadata.waited) if each is not None}
        self._later.give_up("restart")

    async def _restore_state(self) -> None:
        self._state.close()
        state = self._around.state(self._tp.partition)
        await self._around.restore_state(self._tp.partition, state)
        self._state = state

    def _moved(self, committed: Committed, token: int) -> bool:
        """Whether somebody else committed something: by the token, for answers to retries move no request's offset."""
        return token != self._token or committed.positions[self._tp] != self._positions[self._tp]

    async def close(self) -> None:
        """Shadow questions under way are dropped, and their answers that were not published."""
        await self._later.close()
        self._state.close()

    @property
    def units(self) -> AbstractSet[str]:
        """Of the batch that was worked on last, those whose state was looked at or changed."""
        return self._pending.state.touched if self._pending else frozenset()

    def due(self) -> float | None:
        """When there is something to publish without new requests."""
        return 0.0 if self._later.outbox else self._tally.due(self._ledgers.values())

    # -- a batch ---------------------------------------------------------------------------------

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:
        """The whole output of a batch: outcomes, retries, dead letters, escalations, shadows, summary, offsets."""
        feedback = batch.get(self._feedback, [])
        # What waited came before what comes now: of two with one id the older one answers.
        apart = (self._tp, self._feedback)
        inputs = [(tp, records) for tp, records in batch.items() if records and tp not in apart]
        if requests := batch.get(self._tp):
            inputs.append((self._tp, requests))
        draft = self._draft(inputs, feedback)
        self._publish(draft, final=final)
        if feedback:
            await self._learn(feedback, draft)
        if inputs:
            await self._decide(inputs, draft)
        if not draft.output.messages and not draft.reads:
            return Output()
        draft.output.add(self._around.names.state, self._tp.partition, draft.state.messages())
        if draft.positions:
            draft.output.positions = draft.positions
            draft.output.metadata = encode_metadata(
                Metadata(
                    even=draft.even,
                    ledger=draft.ledgers.get(self._tp.topic),
                    of=self._around.partitions.get(self._tp.topic, 0),
                    token=draft.token,
                    waited=[each for topic, each in draft.ledgers.items() if topic != self._tp.topic],
                )
            )
        self._pending = draft
        # The output knows the draft and no longer the other way round: a ring of the two would hold all messages until
        # the garbage collector comes by.
        output, draft.output = draft.output, Output()
        draft.ends = output.ends
        output.keep = partial(self._keep, draft)
        return output

    def _draft(self, inputs: list[tuple[TopicPartition, list[Record]]], feedback: list[Record]) -> Draft:
        positions = {tp: records[-1].offset + 1 for tp, records in inputs}
        if feedback:
            positions[self._feedback] = feedback[-1].offset + 1
        reached = positions.get(self._feedback) or self._positions.get(self._feedback) or 0
        # Always with the position of the requests, for the state lies beside it.
        if self._tp not in positions and (at := self._positions.get(self._tp)) is not None:
            positions[self._tp] = at
        return Draft(
            output=Output(),
            positions=positions,
            even=dict(self._even),
            ledgers=dict(self._ledgers),
            state=self._state.begin(),
            reached=reached,
            reads=bool(inputs or feedback),
        )

    async def _learn(self, feedback: list[Record], draft: Draft) -> None:
        """Before the requests of the same batch: what is known counts."""
        for some in pieces(feedback, SLICE_RECORDS):
            async with self._around.turn.begin():
                for record in some:
                    draft.state.learn(record)
            await asyncio.sleep(0)

    def _publish(self, draft: Draft, *, final: bool) -> None:
        """What was committed before and is not published yet."""
        names, number = self._around.names, self._tp.partition
        if outbox := self._later.outbox:
            draft.shadows_sent = len(outbox)
            draft.output.add(names.shadows, number, list(outbox))
        due = self._tally.due(self._ledgers.values())
        if due is None or (due > 0 and not final):
            return
        draft.summary_sent = True
        count = self._around.partitions[names.summaries]
        for message in self._tally.messages(self._ledgers.values()):
            # All summaries of an agent meet in one partition, where the live tables add them up.
            draft.output.add(names.summaries, sum(message[0] or b"") % count, [message])
        draft.ledgers = {
            topic: Ledger(topic=topic, partition=number, start=each.end, end=each.end)
            for topic, each in self._ledgers.items()
            if topic == self._tp.topic  # the others begin where they stand, when something comes again
        }

    async def _decide(self, inputs: list[tuple[TopicPartition, list[Record]]], draft: Draft) -> None:
        around = self._around
        questions = Questions(around.scorer)
        prepared: list[tuple[Prepared, Asked]] = []
        # The first questions are under way while others compute, and a batch waits for one deadline, however many they are.
        try:
            async with around.turn.begin():
                for tp, records in inputs:
                    async for some in self._prepared(self._part(tp, records, draft), draft):
                        for each in some:
                            wanted = self._wanted(each.computed.requests, each.candidates)
                            prepared.append((each, questions.ask(each.runtime, each.computed.rows, wanted)))
                        questions.send()
            await questions.answered()
        finally:
            questions.cancel()  # where the batch failed nobody waits for them
        async with around.turn.finish():
            for part in draft.parts:
                mine = [each for each in prepared if each[0].part is part]
                await self._emit(part, mine, draft)
                draft.keep_notes(each for each, _ in mine)
                self._settle(part, draft)

    async def _prepared(self, part: Part, draft: Draft) -> AsyncIterator[list[Prepared]]:
        """Computed slice by slice, and an agent's requests handed on once they are enough; the loop's sockets have turns."""
        assert self._answered is not None, "restored before the first batch"
        groups: Groups = {}
        for stretch in pieces(part.requests, STRETCH_RECORDS):
            for some in pieces(stretch, SLICE_RECORDS):
                part.take(self._around.validator.check(some, self._answered, draft.answered))
                part.compute(groups, self._around.runtimes, SLICE_ROWS, draft.state)
            enough = [key for key, group in groups.items() if len(group.requests) >= GROUP_ROWS]
            yield [self._prepare(part, groups.pop(key), draft) for key in enough]
            await asyncio.sleep(0)
        part.compute(groups, self._around.runtimes, 1, draft.state)
        yield [self._prepare(part, group, draft) for group in groups.values()]

    def _part(self, tp: TopicPartition, records: list[Record], draft: Draft) -> Part:
        if tp == self._tp:
            part = Part(tp, records, records, sent_again(records, tp.topic))
        else:
            requests, came, foreign = all_returned(records, self._tp.topic)
            part = Part(tp, records, requests, came, Checked(rejected=foreign), waited=True)
        draft.parts.append(part)
        return part

    def _prepare(self, part: Part, group: Group, draft: Draft) -> Prepared:
        runtime, requests, computed = group.runtime, group.requests, group.computed
        agent, assigned, features_ms = runtime.agent, group.assigned, group.features_ms
        reached = None if agent.state is None else draft.reached
        if assigned is not None:
            part.reject(computed.bad)
            candidates = [assigned.arm == "candidate"] * len(computed.requests)
            return Prepared(part, runtime, computed, candidates, assigned, features_ms, reached)
        flag = self._around.flags.get(agent.flag)
        known = draft.even.get(agent.name)
        split = self._split(part, requests, computed) if computed.bad else computed.requests
        candidates, counter = route(split, flag, self._tp.partition, known)
        if counter is not None:
            draft.even[agent.name] = counter
        if computed.bad:
            candidates = part.assign(split, candidates, computed.bad, flag)
            part.reject(computed.bad)
        return Prepared(part, runtime, computed, candidates, flag, features_ms, reached)

    def _split(self, part: Part, requests: list[Accepted], computed: Computed) -> list[Accepted]:
        """Which requests are split now: those that are decided, and those that failed and are tried again."""
        over = {
            id(each.record)
            for each in computed.bad
            if self._retries.topic(each, part.came_of(each.record).attempt) is None
        }
        return [each for each in requests if id(each.record) not in over]

    async def _emit(self, part: Part, prepared: list[tuple[Prepared, Asked]], draft: Draft) -> None:
        decided = Decided()
        emitters = [Emitter(decision_of(each, asked), decided) for each, asked in prepared]
        order = in_order(emitters)
        while some := list(islice(order, STRETCH_RECORDS)):
            moment = Moment(utc_now())
            for emitter, i in some:
                emitter.write(i, moment)
            await asyncio.sleep(0)
        for emitter in emitters:
            self._ask_later(emitter.decision, emitter.unasked, draft)
            draft.arms.append(emitter.arms())
        part.reject(decided.too_large)
        names, number = self._around.names, self._tp.partition
        draft.output.add(names.outcomes, number, decided.outcomes)
        draft.output.add(names.escalations, number, decided.escalations)
        part.decided = decided

    def _settle(self, part: Part, draft: Draft) -> None:
        """What failed waits for another attempt or is a dead letter; and the ledger over all that was read."""
        names, number = self._around.names, self._tp.partition
        for each in part.checked.rejected:
            came = part.came_of(each.record)
            assigned = part.assigned.get(id(each.record))
            topic = self._retries.topic(each, came.attempt)
            if topic is not None:
                part.again.append((each.error.reason, came.attempt + 1))
                message = self._retries.message(each, came, assigned, time.time() * 1000)
                draft.output.add(topic, number, [message])
                continue
            part.letters.append(each)
            kept = [(HEADER_KEPT, encode(kept_of(each, came, assigned)))] if came.kept else []
            message = letter(each, self._around.settings.request_bytes_max, came.attempt, kept)
            place = number % self._around.partitions[names.dead_letters]
            draft.output.add(names.dead_letters, place, [message])
        topic = part.tp.topic
        draft.ledgers[topic] = part.ledger(draft.ledgers.get(topic), self._positions.get(part.tp))

    def _wanted(self, requests: list[Accepted], candidates: list[bool]) -> list[int]:
        """Places that the model is asked for now; the others' shadow answers ride along where that is sampled."""
        if not any(candidates):
            return []
        share = self._around.settings.shadow_percent
        if share >= 100:
            return list(range(len(candidates)))
        return [i for i, candidate in enumerate(candidates) if candidate or sampled(requests[i], share)]

    def _ask_later(self, decision: Decision, unasked: list[int], draft: Draft) -> None:
        """Note whom to ask once the batch is committed; nobody waits for these answers."""
        runtime, share = decision.runtime, self._around.settings.shadow_percent
        if runtime.card is None or not share:
            return
        if any(decision.candidates):  # they were asked along with the candidates, or not sampled
            if decision.asked.failure:
                missed = len(self._wanted(decision.requests, decision.candidates)) - sum(decision.candidates)
                metrics.SHADOWS_MISSED.labels(runtime.agent.name, decision.asked.failure).inc(missed)
            return
        places = [i for i in unasked if share >= 100 or sampled(decision.requests[i], share)]
        if places:
            requests = [decision.requests[i] for i in places]
            draft.unasked.append((runtime, requests, [decision.rows[i] for i in places]))

    # -- after the commit ------------------------------------------------------------------------

    def _keep(self, draft: Draft) -> None:
        assert self._answered is not None, "restored before the first batch"
        self._pending = None
        self._positions |= draft.positions
        self._token = draft.token
        self._even = draft.even
        self._ledgers = draft.ledgers
        self._answered.keep(draft.answered, time.monotonic())
        self._state.keep(draft.state, draft.ends.get((self._around.names.state, self._tp.partition)))
        del self._later.outbox[: draft.shadows_sent]
        if draft.summary_sent:
            self._tally.published()
        for arms in draft.arms:
            for arm in arms.values():
                self._around.observe(arm)
            self._tally.add(arms)
        for part in draft.parts:
            note(part)
        for runtime, requests, rows in draft.unasked:
            self._later.ask(runtime, requests, rows)
