"""Whatever lies between two requests of a batch, the two are decided as if it were not there."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.streams.flags import apply
from pointsman.streams.output import Record
from pointsman.streams.sink import SinkWork
from pointsman.streams.topics import Names
from tests.builders import at, feedback, record, valid
from tests.fuzz.corpus import kept
from tests.fuzz.mutate import inputs
from tests.support.outcomes import outcome, shadow
from tests.unit.streams.decisions.decision_world import NAMES, World

CLOCKS = ("decided_at", "timings", "place")
"""What differs from run to run, or lies where the poison moved it."""
REQUESTS = inputs(list(kept("request").values()))


async def decided(records: list[Record]) -> tuple[dict[str, dict[str, Any]], int, int]:
    """Outcomes by id without their clocks, and the numbers of outcomes and of dead letters."""
    world = World(batch_records_max=100)
    world.flag(50, 1)
    for each in records:
        world.broker.produce(each.value, each.key)
    await world.caught_up()
    await world.stop()
    outcomes = world.broker.outcomes()
    found = {
        each.decision_id: {k: v for k, v in _plain(each).items() if k not in CLOCKS} for each in outcomes
    }
    (ledger,) = {each.requests for each in world.broker.ledgers() if each.requests} or {0}
    letters = len(world.broker.committed.get(NAMES.dead_letters, []))
    assert ledger == len(records)
    assert sum(each.difference() for each in world.broker.ledgers()) == 0
    return found, len(outcomes), letters


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(REQUESTS, st.none() | st.sampled_from([b"r1", b"", b"\xff", b"u"]))
async def test_requests_around_a_poisoned_one_are_decided_alike(value: bytes, key: bytes | None) -> None:
    good = [valid("a", unit="u1"), valid("b", unit="u2", input={"p": 0.1})]
    alone, _, _ = await decided(good)
    among, outcomes, letters = await decided([good[0], record(value, key=key), good[1]])
    assert {name: among[name] for name in alone} == alone
    assert outcomes + letters == 3


SINK = {
    Names().outcomes: ("outcome", msgspec.json.encode(outcome(1)), "outcomes"),
    Names().shadows: ("shadow", msgspec.json.encode(shadow(1)), "shadows"),
    Names().feedback: ("feedback", msgspec.json.encode(feedback("f", "d")), "feedback"),
    Names().dead_letters: ("dead-letter", b"x", "dead_letters"),
}
PLACE = [("topic", b"decision-requests"), ("partition", b"0"), ("offset", b"1")]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from(sorted(SINK)), st.data())
async def test_messages_around_a_poisoned_one_reach_the_tables_alike(topic: str, data: st.DataObject) -> None:
    decoder, good, field = SINK[topic]
    poison = data.draw(inputs(list(kept(decoder).values())))
    headers = [("topic", poison), ("offset", None), ("partition", poison)]
    records = [
        record(good, key=b"d", topic=topic, offset=0, headers=PLACE),
        record(poison, key=b"d", topic=topic, offset=1, headers=headers),
        record(good, key=b"d", topic=topic, offset=2, headers=PLACE),
    ]
    work = SinkWork(at(records[0]), Names(), "cluster", 1, 262_144)
    batch: Any = (await work.process({at(records[0]): records}, final=False)).payload
    alone: Any = (await work.process({at(records[0]): records[:1]}, final=False)).payload
    (wanted,) = getattr(alone, field)
    found = [_plain(each) for each in getattr(batch, field)]
    assert (batch.start, batch.end) == (0, 3)
    assert found[0] == found[-1] == _plain(wanted)
    assert len(found) in (2, 3)


def _plain(message: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message))


@given(inputs(list(kept("flag").values())))
def test_a_flag_that_is_none_changes_no_other(value: bytes) -> None:
    from pointsman.streams.flags import Flags

    flags = Flags()
    good = kept("flag")["plain"]
    apply(flags, good)
    (before,) = flags.all()
    apply(flags, value)
    apply(flags, None)
    known = flags.get(before.name)
    assert known is not None
    assert known == before or known.version >= before.version
