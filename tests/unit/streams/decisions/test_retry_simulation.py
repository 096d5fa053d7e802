"""Retries under every kind of failure: each request has its one end, and the ledgers of all topics close."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.models.agent import TryLater
from pointsman.streams.decisions import work
from pointsman.streams.decisions.tally import decode_metadata
from tests.unit.streams.decisions.decision_world import World
from tests.unit.streams.decisions.test_retry import LONG_AGO, TO_COME, Gate, make, no_backoff, produce

__all__ = ["no_backoff"]

FATES = ["ok", "before", "after", "hang", "hang after", "fenced", "open"]
actions = st.one_of(
    st.tuples(
        st.just("produce"), st.lists(st.sampled_from(["a", "x", "boom", "late"]), min_size=1, max_size=8)
    ),
    st.tuples(st.just("repeat"), st.integers(0, 5)),
    st.tuples(st.just("fate"), st.lists(st.sampled_from(FATES), min_size=1, max_size=3)),
    st.tuples(st.just("flag"), st.sampled_from([0.0, 30.0, 100.0])),
    st.tuples(st.just("pump"), st.integers(1, 40)),
    st.tuples(st.just("wait"), st.just(0)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("gate"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([LONG_AGO, TO_COME])),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, max_size=14))
def test_whatever_fails_what_waits_has_its_one_end(script: list[tuple[str, Any]]) -> None:
    asyncio.run(simulate(script))


@pytest.fixture(autouse=True, scope="module")
def slices() -> Iterator[None]:
    """Batches are computed in slices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "SLICE_RECORDS", 2)
        yield


async def simulate(script: list[tuple[str, Any]]) -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate)
    version = 0
    for name, value in script:
        if name == "produce":
            for text in value:
                produce(world, text, **({"agent": "late"} if text == "late" else {}))
        elif name == "repeat" and value < len(world.broker.requests):
            world.broker.produce(world.broker.requests[value].value, world.broker.requests[value].key)
        elif name == "fate":
            world.broker.fates.extend(value)
        elif name == "flag":
            version += 1
            world.flag(value, version)
        elif name == "pump":
            world.run()
            await world.pump(value)
        elif name == "wait":
            world.run()
            await asyncio.sleep(0.003)
        elif name == "crash":
            await world.crash()
        elif name == "time":
            world.broker.now_ms = value
        elif name == "gate":
            gate.closed = {"x": TryLater("no")} if value else {}
    await world.settled()
    world.broker.fates.clear()
    await world.until(lambda: world.loop.ready.is_set() and not world.broker.committing, "peace")
    await world.stop()
    check(world)


def check(world: World) -> None:
    """One end for each request, by the topics and by the ledgers; each ledger's range follows the one before."""
    broker = world.broker
    ends = Counter(o.decision_id for o in broker.outcomes())
    assert max(ends.values(), default=1) == 1
    ledgers = broker.ledgers()
    last = decode_metadata(broker.metadata)
    ledgers += [each for each in (last.ledger, *last.waited) if each is not None and each.end > each.start]
    assert all(each.difference() == 0 for each in ledgers)
    for tp in world.inputs:
        mine = [each for each in ledgers if each.topic == tp.topic]
        assert all(a.end == b.start for a, b in pairwise(mine))
        assert sum(each.requests for each in mine) == len(broker.log(tp))
    total = {
        name: sum(getattr(each, name) for each in ledgers)
        for name in ("outcomes", "dead_letters", "duplicates")
    }
    assert total["outcomes"] == len(broker.outcomes())
    assert total["dead_letters"] == len(broker.letters())
    assert sum(total.values()) == len(broker.requests), "each request has one end"
    sent = sum(each.retrying for each in ledgers)
    assert sent == sum(len(broker.log(tp)) for tp in world.inputs[1:])
    for outcome in broker.outcomes():
        assert outcome.history is not None
    for _, _, headers in broker.letters():
        assert dict(headers)["attempt"] == b"4"
