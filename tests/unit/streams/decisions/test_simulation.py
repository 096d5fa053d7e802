"""One partition under every kind of failure: exactly one outcome a request, and every count adds up."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.models.decider import Row
from pointsman.models.split import even, sticky
from pointsman.streams import partition
from pointsman.streams.decisions import work
from pointsman.streams.decisions.tally import decode_metadata
from tests.builders import SEED, Score, request
from tests.unit.streams.decisions.decision_world import NAMES, World

FATES = ["ok", "before", "after", "hang", "hang after", "fenced", "open"]
KINDS = ["even", "unit", "other", "unsure", "repeat", "reused", "not json", "boom", "seven", "nan"]
UNSURE = 0.55
actions = st.one_of(
    st.tuples(
        st.just("produce"),
        st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2)), min_size=1, max_size=12),
    ),
    st.tuples(st.just("fate"), st.lists(st.sampled_from(FATES), min_size=1, max_size=3)),
    st.tuples(st.just("flag"), st.sampled_from([0.0, 20.0, 50.0, 100.0])),
    st.tuples(st.just("pump"), st.integers(1, 40)),
    st.tuples(st.just("wait"), st.just(0)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


@pytest.fixture(autouse=True, scope="module")
def no_backoff() -> Iterator[None]:
    """Restarts follow at once: what is tried here is their number, not their pace. Batches are computed in slices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "BACKOFF_S", (0.0,))
        patch.setattr(work, "SLICE_RECORDS", 2)
        yield


def scores(rows: Sequence[Row]) -> list[float]:
    """The model's: as unsure as the rules of what they are unsure of."""
    return [0.45 if row[0] == UNSURE else 0.25 for row in rows]


class Run:
    """What was produced and what must come of it."""

    def __init__(self) -> None:
        self.world = World(scorer=Score(served=scores))
        self.ids: dict[str, dict[str, Any]] = {}
        self.invalid: list[int] = []
        self.repeats = 0
        self.version = 0
        self.percentages: dict[int, float] = {}
        self.crashed = False

    def produce(self, kind: str, gap: int) -> None:
        broker = self.world.broker
        id_ = f"r{len(broker.requests)}"
        if kind in ("repeat", "reused") and not self.ids:
            kind = "even"
        if kind == "repeat":
            value = next(iter(self.ids.values()))
            self.repeats += 1
        elif kind == "reused":
            value = {
                **next(iter(self.ids.values())),
                "input": {"p": 0.123, "count": len(broker.requests) % 100},
            }
        else:
            value = request(id_, **INPUTS[kind])
        raw = b"nonsense" if kind == "not json" else msgspec.json.encode(value)
        broker.produce(raw, str(value.get("unit") or value["id"]).encode(), gap)
        if kind in ("even", "unit", "other", "unsure"):
            self.ids[id_] = value
        elif kind != "repeat":
            self.invalid.append(broker.requests[-1].offset)

    async def act(self, name: str, value: Any) -> None:
        world = self.world
        if name == "produce":
            for kind, gap in value:
                self.produce(kind, gap)
        elif name == "fate":
            world.broker.fates.extend(value)
        elif name == "flag":
            self.version += 1
            self.percentages[self.version] = value
            world.flag(value, self.version)
        elif name == "pump":
            world.run()
            await world.pump(value)
        elif name == "wait":
            world.run()
            await asyncio.sleep(0.003)
        elif name == "crash":
            self.crashed = True
            await world.crash()
        elif name == "restart":
            await world.stop()
            self.crashed |= world.loop.failure is not None
            world.start()

    async def finish(self) -> None:
        world = self.world
        await world.caught_up()
        world.broker.fates.clear()
        await world.until(lambda: world.loop.ready.is_set() and not world.broker.committing, "peace")
        await world.stop()


INPUTS: dict[str, dict[str, Any]] = {
    "even": {},
    "unit": {"unit": "repo-1"},
    "other": {"agent": "other"},
    "unsure": {"input": {"p": UNSURE}},
    "not json": {},
    "boom": {"input": {"text": "boom"}},
    "seven": {"input": {"text": "seven--"}},
    "nan": {"input": {"text": "nan"}},
}


@settings(max_examples=60, deadline=None)
@given(st.lists(actions, max_size=14))
@example(
    [("produce", [("even", 0)] * 6), ("fate", ["after", "before", "hang after"]), ("pump", 20), ("crash", 0)]
)
@example(
    [
        ("flag", 50.0),
        ("produce", [("unsure", 0), ("even", 0)] * 3),
        ("fate", ["after", "before", "hang"]),
        ("pump", 20),
    ]
)
@example(
    [
        ("flag", 50.0),
        ("produce", [("even", 1)] * 12),
        ("fate", ["after"]),
        ("wait", 0),
        ("fate", ["before"] * 3),
    ]
)
def test_whatever_fails_each_request_has_its_one_end(script: list[tuple[str, Any]]) -> None:
    asyncio.run(simulate(script))


async def simulate(script: list[tuple[str, Any]]) -> None:
    run = Run()
    for name, value in script:
        await run.act(name, value)
    await run.finish()
    check_ends(run)
    check_ledgers(run)
    check_split(run)
    check_summaries(run)
    check_shadows(run)
    check_escalations(run)


def check_ends(run: Run) -> None:
    """Exactly one outcome for each valid id, one letter for each invalid record, nothing for a repeat."""
    broker = run.world.broker
    assert Counter(o.decision_id for o in broker.outcomes()) == Counter(run.ids.keys())
    offsets = [int(dict(headers)["offset"]) for _, _, headers in broker.letters()]
    assert Counter(offsets) == Counter(run.invalid)
    requests = {record.offset: record for record in broker.requests}
    for outcome in broker.outcomes():
        assert msgspec.json.decode(requests[outcome.place.offset].value or b"")["id"] == outcome.decision_id


def check_ledgers(run: Run) -> None:
    """Ranges follow one another without gap or overlap; each balances; together they are what was committed."""
    broker = run.world.broker
    ledgers = broker.ledgers()
    last = decode_metadata(broker.metadata).ledger
    if last is not None and last.end > last.start:
        ledgers.append(last)
    assert all(each.difference() == 0 for each in ledgers)
    for before, after in pairwise(ledgers):
        assert before.end == after.start
    if broker.requests:
        assert ledgers[0].start == broker.requests[0].offset
        assert ledgers[-1].end == broker.requests[-1].offset + 1
    assert sum(each.requests for each in ledgers) == len(broker.requests)
    assert sum(each.outcomes for each in ledgers) == len(run.ids)
    assert sum(each.dead_letters for each in ledgers) == len(run.invalid)
    assert sum(each.duplicates for each in ledgers) == run.repeats


def check_split(run: Run) -> None:
    """Sticky by unit; of each flag version the n-th request without a unit is assigned as if nothing had failed."""
    counters: dict[int, int] = defaultdict(int)
    versions = [0]
    for outcome in sorted(run.world.broker.outcomes(), key=lambda each: each.place.offset):
        version = outcome.flag.version if outcome.agent == "small" else 0
        percentage = run.percentages.get(version, 0.0)
        if outcome.unit is not None:
            assert (outcome.arm == "candidate") is sticky(SEED, outcome.unit, percentage)
        else:
            assert (outcome.arm == "candidate") is even(SEED, 0, counters[version], percentage)
            counters[version] += 1
        if outcome.agent == "small":
            assert version >= versions[-1]
            versions.append(version)


def check_summaries(run: Run) -> None:
    """Arms add up to the outcomes, and none counts twice.

    Only a crash loses what was not published yet, and so does a stop whose last commit fails.
    """
    broker = run.world.broker
    summed: Counter[tuple[str, str]] = Counter()
    for arm in broker.arms():
        summed[arm.agent, arm.arm] += arm.decisions
        assert sum(arm.latency.values()) == arm.decisions
    decided = Counter((o.agent, str(o.arm)) for o in broker.outcomes())
    if run.crashed:
        assert summed <= decided
    else:
        assert summed == decided
        assert sum(run.world.observed) == len(broker.outcomes())


def check_shadows(run: Run) -> None:
    """A shadow answer is published at most once, for outcomes that have none of the model's."""
    shadows = Counter(each.decision_id for each in run.world.broker.shadows())
    assert all(count == 1 for count in shadows.values())
    alone = {o.decision_id for o in run.world.broker.outcomes() if o.answers.ml is None}
    assert set(shadows) <= alone


def check_escalations(run: Run) -> None:
    """One message for each outcome that a person should look at and for no other, in the outcome's transaction."""
    for each in run.world.broker.transactions:
        wanted = [
            key
            for key, value, _ in each.messages.get((NAMES.outcomes, 0), [])
            if msgspec.json.decode(value or b"")["action"] == "escalate"
        ]
        assert [key for key, _, _ in each.messages.get((NAMES.escalations, 0), [])] == wanted
