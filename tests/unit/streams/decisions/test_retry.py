"""What fails for a while comes again, with its arm, its place and its time; then it is a dead letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from pointsman.models.agent import TryLater
from pointsman.models.decider import Row
from pointsman.models.split import even
from pointsman.schemas import dead_letter
from pointsman.schemas.codec import encode
from pointsman.schemas.outcome import Cause, History, Place
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN, Assigned, Kept, Redriven
from pointsman.schemas.summary import Ledger
from pointsman.streams import partition
from pointsman.streams.decisions.retry import kept_in
from pointsman.streams.decisions.tally import METADATA_BYTES_MAX, Metadata, decode_metadata, encode_metadata
from pointsman.streams.decisions.validate import KEY_BYTES_MAX
from pointsman.streams.output import Committed
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names
from tests.builders import AT_MS, SEED, Score, Small, agent, features, request
from tests.unit.streams.decisions.decision_world import TP, World

DELAYS = (1, 2, 3)
LONG_AGO, TO_COME = AT_MS, 2 * AT_MS
"""Times of what is sent to a delay topic: it is due at once, or waits its whole delay."""
MINUTE = (60_000, 60_001, 60_002)
"""Longer than a test takes."""
REASONS = Settings().retry_reasons


class Gate:
    """Features that ask for a later attempt on some texts, until told otherwise."""

    def __init__(self) -> None:
        self.closed: dict[str, Exception] = {}
        self.calls: int | None = None
        """After so many calls that failed it opens by itself; an attempt is two: the batch, then the request."""

    def __call__(self, inputs: Sequence[Small]) -> list[Row]:
        for each in inputs:
            if each.text in self.closed and self.calls != 0:
                self.calls = self.calls and self.calls - 1
                raise self.closed[each.text]
        return features(inputs)


def make(gate: Gate, **changes: Any) -> World:
    given_ = {"retry_reasons": REASONS, "retry_delays_ms": DELAYS, **changes}
    return World(agents=[agent(features=gate), agent("other")], scorer=Score(), **given_)


def produce(world: World, *texts: str, headers: Sequence[tuple[str, bytes]] = (), **changes: Any) -> None:
    for text in texts:
        id_ = f"r{len(world.broker.requests)}"
        value = request(id_, input={"text": text}, **changes)
        key = str(value.get("unit") or value["id"]).encode()
        world.broker.produce(msgspec.json.encode(value), key, headers=headers)


async def hold(world: World) -> None:
    """What waits from now on waits for longer than the test; ends once all requests are read."""
    world.broker.now_ms = TO_COME
    await world.caught_up()


async def release(world: World) -> None:
    """A new process, to which all that waits is due."""
    await world.stop()
    world.broker.now_ms = LONG_AGO
    world.start()
    await world.settled()
    await world.stop()


def headers_of(world: World, n: int = 0) -> dict[str, bytes]:
    return dict(world.broker.letters()[n][2])


@pytest.fixture(autouse=True, scope="module")
def no_backoff() -> Iterator[None]:
    """Restarts follow at once: what is tried here is their number, not their pace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "BACKOFF_S", (0.0,))
        yield


async def test_what_asks_for_a_later_attempt_is_answered_by_one_and_its_outcome_says_so() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("the index is being built")
    gate.calls = 2 * 2
    world = make(gate)
    world.broker.now_ms = LONG_AGO + 10_000  # when it was sent to the delay topics
    trace = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    produce(world, "a", "x", "b", headers=[trace])
    await world.caught_up()
    assert [o.decision_id for o in world.broker.outcomes()][:2] == ["r0", "r2"], "the others are not held up"
    await world.settled()
    await world.stop()
    outcome = world.broker.outcomes()[-1]
    assert outcome.history
    cause = Cause(
        reason="try_later",
        field="input",
        expected="a later attempt, as small asked: the index is being built",
    )
    assert outcome.history == History(
        attempts=3,
        first_error=cause,
        taken_from=Place(topic=world.inputs[2].topic, partition=0, offset=0),
    )
    assert outcome.place == Place(topic=TP.topic, partition=0, offset=1)
    assert outcome.timings.total_ms == pytest.approx(outcome.decided_at.timestamp() * 1000 - AT_MS, abs=1)
    assert all(not each.history for each in world.broker.outcomes()[:-1])
    _, _, headers = world.broker.committed["decision-outcomes"][-1]
    assert headers[0][1][:35] == trace[1][:35], "the trace goes on"


@pytest.mark.parametrize(
    ("text", "reason"), [("boom", "feature_error"), ("seven--", "rules_error"), ("x", "try_later")]
)
async def test_after_the_last_attempt_it_is_a_dead_letter_with_the_first_error(
    text: str, reason: str
) -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate)
    produce(world, text, headers=[("mine", b"1"), (HEADER_KEPT, b"forged"), ("reason", b"forged")])
    await world.settled()
    await world.stop()
    ((key, value, headers),) = world.broker.letters()
    assert (key, value) == (world.broker.requests[0].key, world.broker.requests[0].value)
    found = dict(headers)
    assert (found["reason"].decode(), found["attempt"], found["offset"]) == (reason, b"4", b"0")
    assert found["mine"] == b"1"
    assert [name for name, _ in headers].count("reason") == 1
    kept = msgspec.json.decode(found[HEADER_KEPT], type=Kept)
    assert (kept.attempt, kept.first_error.reason, kept.requested_ms) == (4, reason, AT_MS)
    assert kept.assigned == Assigned(arm="control", percentage=0, version=0)
    assert kept.taken_from == Place(topic=world.inputs[3].topic, partition=0, offset=0)
    for tp in world.inputs[1:]:
        ((_, same, _),) = world.broker.committed[tp.topic]
        assert same == value
    assert world.broker.outcomes() == []


async def test_the_first_error_is_kept_beside_the_last() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("first")
    world = make(gate, retry_delays_ms=MINUTE[:1])
    produce(world, "x")
    await hold(world)
    gate.closed["x"] = ValueError("last")
    await release(world)
    found = headers_of(world)
    assert (found["reason"], found["attempt"]) == (b"feature_error", b"2")
    kept = msgspec.json.decode(found[HEADER_KEPT], type=Kept)
    assert kept.first_error.reason == "try_later"


async def test_an_agent_that_comes_later_answers_what_was_asked_before() -> None:
    world = make(Gate(), retry_delays_ms=MINUTE)
    produce(world, "a", agent="late")
    await hold(world)
    late = agent("late")
    world.agents["late"] = late
    world.runtimes["late"] = world.runtimes["small"].__class__(late)
    world.flag(100, 4, "late")
    await release(world)
    (outcome,) = world.broker.outcomes()
    assert outcome.history
    assert outcome.history.first_error is not None
    assert outcome.history.first_error.reason == "unknown_agent"
    assert (outcome.arm, outcome.flag.version) == ("candidate", 4), "it is split when that is first possible"


async def test_the_first_assignment_stays_and_counts_once() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate, retry_delays_ms=MINUTE)
    world.flag(50, 1)
    texts = ["a", "x", "a", "x", "x", "a"]
    produce(world, *texts)
    await hold(world)
    world.flag(100, 2)
    world.flag(0, 3)
    gate.closed.clear()
    await release(world)
    found = {o.place.offset: o for o in world.broker.outcomes()}
    assert [(found[n].arm == "candidate") for n in range(6)] == [even(SEED, 0, n, 50) for n in range(6)]
    assert {o.flag.version for o in found.values()} == {1}
    assert {o.flag.percentage for o in found.values()} == {50}
    assert decode_metadata(world.broker.metadata).even == {"small": (1, 6)}


@pytest.mark.parametrize("reasons", [(), ("unknown_agent",)])
async def test_what_is_not_to_be_tried_again_is_a_dead_letter_at_once(reasons: tuple[str, ...]) -> None:
    world = make(Gate(), retry_reasons=reasons)
    produce(world, "boom")
    await world.settled()
    await world.stop()
    assert headers_of(world)["attempt"] == b"1"
    assert HEADER_KEPT not in headers_of(world)


@pytest.mark.parametrize("key", [None, b"k" * (KEY_BYTES_MAX + 1)])
async def test_what_could_not_succeed_for_its_key_does_not_wait(key: bytes | None) -> None:
    world = make(Gate())
    world.broker.produce(msgspec.json.encode(request("r1", agent="late")), key)
    world.broker.produce(b"nonsense", b"k")
    await world.settled()
    await world.stop()
    assert [dict(headers)["attempt"] for _, _, headers in world.broker.letters()] == [b"1", b"1"]


async def test_a_record_of_a_delay_topic_that_is_not_ours_is_a_dead_letter_from_there() -> None:
    world = make(Gate())
    produce(world, "a")
    topic = world.inputs[1].topic
    world.broker.committed[topic] = [(b"k", b"{}", [(HEADER_KEPT, b"{}")]), (b"k", b"{}", [])]
    await world.settled()
    await world.stop()
    for n in range(2):
        found = headers_of(world, n)
        assert (found["reason"], found["topic"].decode()) == (b"no_context", topic)
    assert "no_context" in dead_letter.REASONS
    assert all(each.difference() == 0 for each in world.broker.ledgers())


async def test_the_same_request_sent_again_meanwhile_has_one_outcome_and_another_content_a_letter() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate, retry_delays_ms=MINUTE)
    produce(world, "x")
    await hold(world)
    gate.closed.clear()
    first = world.broker.requests[0]
    world.broker.produce(first.value, first.key)
    other = request("r0", input={"text": "other"})
    world.broker.produce(msgspec.json.encode(other), b"r0")
    await world.caught_up()
    await release(world)
    assert [(o.decision_id, o.place.offset) for o in world.broker.outcomes()] == [("r0", 1)]
    assert [dict(h)["reason"] for _, _, h in world.broker.letters()] == [b"id_reused"]
    ledgers = world.broker.ledgers()
    assert sum(each.duplicates for each in ledgers if each.topic == world.inputs[1].topic) == 1


async def test_what_was_answered_after_it_waited_is_not_answered_again() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate, retry_delays_ms=MINUTE)
    produce(world, "x")
    await hold(world)
    gate.closed.clear()
    await world.stop()
    world.broker.now_ms = LONG_AGO
    world.start()
    first = world.broker.requests[0]
    await world.settled()
    world.broker.produce(first.value, first.key)
    await world.caught_up()
    await world.stop()
    assert [(o.decision_id, o.place.offset) for o in world.broker.outcomes()] == [("r0", 0)]


async def test_of_two_in_one_batch_the_one_that_waited_answers() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate, retry_delays_ms=MINUTE)
    produce(world, "x")
    await hold(world)
    gate.closed.clear()
    first = world.broker.requests[0]
    world.broker.produce(first.value, first.key)
    waits = world.inputs[1]
    await world.stop()
    batch = {TP: world.broker.requests[1:], waits: world.broker.log(waits)}
    output = await world.work.process(batch, final=False)
    world.broker.apply(output)
    output.keep()
    assert [(o.decision_id, o.place.offset) for o in world.broker.outcomes()] == [("r0", 0)]
    assert output.positions == {TP: 2, waits: 1}
    again = await world.work.process({TP: world.broker.requests[1:]}, final=False)
    assert (TP.topic.replace("requests", "outcomes"), 0) not in again.messages


async def test_a_redriven_request_keeps_its_arm_and_says_where_it_was_first() -> None:
    world = make(Gate())
    world.flag(0, 9)
    first = Place(topic=TP.topic, partition=0, offset=4711)
    redriven = Redriven(
        count=2,
        place=first,
        letter=Place(topic="decision-dead-letters", partition=0, offset=3),
        first_error=Cause(reason="feature_error", field="input", expected="x"),
        assigned=Assigned(arm="candidate", percentage=20, version=7),
    )
    produce(world, "a", "b", headers=[(HEADER_REDRIVEN, encode(redriven))])
    produce(world, "c", headers=[(HEADER_REDRIVEN, b"nonsense")])
    produce(world, "d", headers=[(HEADER_REDRIVEN, encode(redriven) + b" " * 10_000)])
    await world.settled()
    await world.stop()
    a, b, c, d = world.broker.outcomes()
    for outcome in (a, b):
        assert (outcome.arm, outcome.source, outcome.flag.version, outcome.flag.percentage) == (
            "candidate", "ml", 7, 20,
        )  # fmt: skip
        assert outcome.history == History(redriven=2, first_place=first, first_error=redriven.first_error)
        assert outcome.place.offset in (0, 1)
    assert (c.arm, c.flag.version, bool(c.history), bool(d.history)) == ("control", 9, False, False)


async def test_answers_to_what_waited_that_another_owner_committed_are_read_back() -> None:
    """The requests' own offset does not move by them: the token tells."""
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate, retry_delays_ms=MINUTE)
    produce(world, "x")
    await hold(world)
    mine = world.work
    gate.closed.clear()
    await release(world)
    assert len(world.broker.outcomes()) == 1
    restores = world.restores
    positions = {tp: world.broker.positions.get(tp) for tp in world.inputs} | {TP: world.broker.position}
    await mine.restore(Committed(positions, world.broker.metadata))
    assert world.restores == restores + 1
    await mine.restore(Committed(positions, world.broker.metadata))
    assert world.restores == restores + 1, "and once is enough"


async def test_what_waits_is_no_lag_and_is_taken_in_the_order_of_its_topic() -> None:
    gate = Gate()
    gate.closed["x"] = TryLater("no")
    world = make(gate, retry_delays_ms=MINUTE)
    produce(world, "x", "a", "x")
    await hold(world)
    await world.until(lambda: world.loop.waiting == 2, "both to be read")
    assert (world.loop.buffered, world.loop._take()) == (2, {})
    assert world.loop.holds(world.inputs[1])
    assert not world.loop.holds(TP)
    assert not world.loop.holds(world.inputs[2]), "nothing is known of what may come there"
    gate.closed.clear()
    await release(world)
    assert [o.place.offset for o in world.broker.outcomes()] == [1, 0, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {"place": {"topic": "any\0where", "partition": 0, "offset": 1}},
        {"place": {"topic": TP.topic, "partition": -1, "offset": 1}},
        {"first_error": {"reason": "of my own", "field": "", "expected": ""}},
        {"assigned": {"arm": "both", "percentage": 5, "version": 1}},
        {"assigned": {"arm": "control", "percentage": 500, "version": 1}},
        {"count": 0},
    ],
)
async def test_a_redriven_header_that_ours_could_not_be_says_nothing(changes: dict[str, Any]) -> None:
    place = {"topic": TP.topic, "partition": 0, "offset": 4711}
    header = {
        "count": 1,
        "place": place,
        "letter": place,
        "first_error": {"reason": "try_later", "field": "", "expected": ""},
        "assigned": {"arm": "candidate", "percentage": 5, "version": 1},
    }
    world = make(Gate())
    for value in (header, header | changes):
        produce(world, "a", headers=[(HEADER_REDRIVEN, msgspec.json.encode(value))])
    await world.settled()
    await world.stop()
    ours, other = world.broker.outcomes()
    assert (bool(ours.history), ours.arm) == (True, "candidate")
    assert (bool(other.history), other.arm) == (False, "control")


async def test_a_record_of_a_delay_topic_that_names_another_partition_is_not_ours() -> None:
    world = make(Gate())
    cause = Cause(reason="try_later", field="", expected="")
    places = [Place(topic=TP.topic, partition=1, offset=1), Place(topic="other", partition=0, offset=1)]
    world.broker.committed[world.inputs[1].topic] = [
        (
            b"r9",
            b"{}",
            [(HEADER_KEPT, encode(Kept(attempt=2, place=place, requested_ms=1, first_error=cause)))],
        )
        for place in places
    ]
    await world.settled()
    await world.stop()
    assert [dict(headers)["reason"] for _, _, headers in world.broker.letters()] == [b"no_context"] * 2


def test_the_ledgers_of_all_inputs_fit_beside_an_offset() -> None:
    """With the longest prefix, as many delays as may be, and counts of a year."""
    names = Names("p" * 100, [86_399_999 - n for n in range(8)])
    many = 10**11
    ledgers = [
        Ledger(
            topic=topic, partition=9_999, start=many, end=many, requests=many, outcomes=many, pending=many,
            dead_letters=many, duplicates=many, retrying=many,
        )
        for topic in (names.requests, *names.retries)
    ]  # fmt: skip
    given_ = Metadata(ledger=ledgers[0], waited=ledgers[1:], token=2**53 - 1, even={"small": (10**9, many)})
    text = encode_metadata(given_)
    assert len(text) <= METADATA_BYTES_MAX
    assert decode_metadata(text).waited == ledgers[1:]
    assert decode_metadata(text).ledger == ledgers[0]


def test_a_header_of_ours_is_read_back_however_odd_its_texts_are() -> None:
    cause = Cause(reason="feature_error", field="\x01" * 500, expected="\x02" * 500)
    kept = Kept(
        attempt=2, place=Place(topic="t" * 249, partition=2**31 - 1, offset=2**63 - 1),
        requested_ms=2**53, first_error=cause, due_ms=2**53,
        assigned=Assigned(arm="candidate", percentage=33.333333333333336, version=2**63 - 1),
    )  # fmt: skip
    assert kept_in([(HEADER_KEPT, encode(kept))]) == kept
