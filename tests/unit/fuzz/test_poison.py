"""Whatever lies between two requests of a batch, the two are decided as if it were not there."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pointsman.schemas import dead_letter
from pointsman.schemas.codec import Decoder
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN
from pointsman.streams.flags import Flags, apply
from pointsman.streams.output import Record
from pointsman.streams.settings import Settings
from pointsman.streams.sink_work import SinkWork
from pointsman.streams.topics import Names
from tests.builders import AT_MS, at, feedback, record, valid
from tests.fuzz.corpus import kept
from tests.fuzz.mutate import inputs
from tests.support.outcomes import outcome, shadow
from tests.unit.streams.decisions.decision_world import NAMES, World

CLOCKS = ("decided_at", "timings", "place")
"""What differs from run to run, or lies where the poison moved it."""
REQUESTS = inputs(list(kept("request").values()))


_PLACE = {"topic": NAMES.requests, "partition": 0, "offset": 4711}
_BOTH = {
    "place": _PLACE,
    "first_error": {"reason": "try_later", "field": "", "expected": ""},
    "assigned": {"arm": "candidate", "percentage": 5, "version": 1},
}
REDRIVEN = msgspec.json.encode({**_BOTH, "count": 1, "letter": _PLACE})
KEPT = msgspec.json.encode({**_BOTH, "attempt": 2, "requested_ms": AT_MS})
"""What Pointsman writes into its own headers, of a request that was sent again and of one that is tried again."""
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([HEADER_REDRIVEN, HEADER_KEPT, "traceparent", "tracestate", *dead_letter.HEADERS])
        | st.text(st.characters(codec="utf-8"), max_size=5),
        st.none() | inputs([REDRIVEN, KEPT]) | inputs(list(kept("trace-headers").values())),
    ),
    max_size=4,
)


async def decided(records: list[Record]) -> tuple[dict[str, dict[str, Any]], int, int]:
    """Outcomes by id without their clocks, and the numbers of outcomes and of dead letters.

    With retries, as they are by default: what is tried again comes back with its headers.
    """
    world = World(batch_records_max=100, retry_reasons=Settings().retry_reasons, retry_delays_ms=(1, 2))
    world.flag(50, 1)
    for each in records:
        world.broker.produce(each.value, each.key, headers=each.headers)
    await world.settled()
    await world.stop()
    outcomes = world.broker.outcomes()
    found = {
        each.decision_id: {k: v for k, v in _plain(each).items() if k not in CLOCKS} for each in outcomes
    }
    ledgers = world.broker.ledgers()
    assert sum(each.requests for each in ledgers if each.topic == NAMES.requests) == len(records)
    assert sum(each.difference() for each in ledgers) == 0
    return found, len(outcomes), len(world.broker.letters())


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(REQUESTS, st.none() | st.sampled_from([b"r1", b"", b"\xff", b"u"]), HEADERS)
@example(valid("r1").value, b"r1", [(HEADER_REDRIVEN, b"garbage")])
@example(valid("r1", agent="late").value, b"r1", [(HEADER_KEPT, b"garbage"), (HEADER_REDRIVEN, None)])
@example(valid("r1").value, b"r1", [(HEADER_REDRIVEN, REDRIVEN), (HEADER_REDRIVEN, b"[" * 2_000)])
async def test_requests_around_a_poisoned_one_are_decided_alike(
    value: bytes, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    good = [valid("a", unit="u1"), valid("b", unit="u2", input={"p": 0.1})]
    alone, _, _ = await decided(good)
    among, outcomes, letters = await decided([good[0], record(value, key=key, headers=headers), good[1]])
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
    """Equal to what stood before, unless the value is a flag, which counts where it is not an older one."""
    good = Decoder(Flag).decode(kept("flag")["plain"])
    wanted = {each.name: each for each in (good, replace(good, name="other"))}
    flags = Flags(wanted)
    apply(flags, value)
    apply(flags, None)
    with contextlib.suppress(InvalidMessage):
        found = Decoder(Flag).decode(value)
        known = wanted.get(found.name)
        if known is None or found.version >= known.version:
            wanted[found.name] = found
    assert {each.name: each for each in flags.all()} == wanted
