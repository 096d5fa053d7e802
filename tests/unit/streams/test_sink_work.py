"""The sink's work: records become one database batch; what cannot be read is passed over, bad feedback is a dead letter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas import dead_letter
from pointsman.schemas.codec import encode
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.signature import HEADER, sign
from pointsman.schemas.summary import ArmSummary, Ledger, Summary
from pointsman.streams import metrics
from pointsman.streams.decisions.validate import Rejected, letter
from pointsman.streams.feedback import check_feedback
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.sink import Database
from pointsman.streams.sink_work import SinkWork
from pointsman.streams.store.batch import SinkBatch, Unfit, WriteResult
from pointsman.streams.topics import Names
from tests.builders import feedback, outcome, record
from tests.support.outcomes import START, shadow

NAMES = Names()
TRACE = [("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]


KEY = "a key of this deployment"


async def process(topic: str, *records: Record, position: int | None = None) -> tuple[SinkWork, Output]:
    tp = TopicPartition(topic, 3)
    made = SinkWork(tp, NAMES, "cluster", 2, 262_144, feedback_keys={"monitor": KEY, "other": KEY * 2})
    await made.restore(Committed({tp: position}))
    return made, await made.process({tp: list(records)}, final=False)


def of(topic: str, value: Any, offset: int = 0, key: bytes | None = b"r1", **more: Any) -> Record:
    raw = encode(value) if isinstance(value, msgspec.Struct) else value
    return record(raw, key=key, offset=offset, topic=topic, partition=3, **more)


def payload(output: Output) -> SinkBatch:
    assert isinstance(output.payload, SinkBatch)
    return output.payload


async def test_a_batch_covers_its_range_from_where_the_last_one_ended() -> None:
    tp = TopicPartition(NAMES.outcomes, 3)
    work, output = await process(
        NAMES.outcomes, of(NAMES.outcomes, outcome(), 12), of(NAMES.outcomes, outcome(1), 14), position=10
    )
    batch = payload(output)
    assert (batch.lane, batch.cluster, batch.topic, batch.partition) == ("sink", "cluster", NAMES.outcomes, 3)
    assert (batch.start, batch.end, output.positions) == (10, 15, {tp: 15})
    assert batch.outcomes == [outcome(), outcome(1)] or [o.decision_id for o in batch.outcomes] == [
        "d0-0",
        "d0-1",
    ]
    again = await work.process({tp: [of(NAMES.outcomes, outcome(2), 20)]}, final=False)
    assert payload(again).start == 10, "nothing counts before its commit"
    output.keep()
    again = await work.process({tp: [of(NAMES.outcomes, outcome(2), 20)]}, final=False)
    assert (payload(again).start, payload(again).end) == (15, 21)


async def test_without_a_stored_position_a_batch_begins_at_its_first_record() -> None:
    _, output = await process(NAMES.outcomes, of(NAMES.outcomes, outcome(), 5))
    assert (payload(output).start, payload(output).end) == (5, 6)


async def test_no_records_make_no_output() -> None:
    work, output = await process(NAMES.outcomes)
    assert not output
    assert work.due() is None


async def test_outcomes_keep_their_trace_ids_beside_them_when_one_cannot_be_read() -> None:
    _, output = await process(
        NAMES.outcomes,
        of(NAMES.outcomes, outcome(0), 0, headers=TRACE),
        of(NAMES.outcomes, b"nonsense", 1, headers=TRACE),
        of(NAMES.outcomes, None, 2),
        of(NAMES.outcomes, outcome(3), 3, headers=[("traceparent", None)]),
    )
    batch = payload(output)
    assert [each.decision_id for each in batch.outcomes] == ["d0-0", "d0-3"]
    assert batch.trace_ids == ["0af7651916cd43dd8448eb211c80319c", None]
    assert (batch.start, batch.end) == (0, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"content_hash": "not hex"},
        {"content_hash": ""},
        {"revision": 70_000},
        {"place": {"topic": "t", "partition": 2**31, "offset": 0}},
        {"place": {"topic": "t", "partition": 0, "offset": 2**63}},
        {"decided_at": "2026-01-01T00:00:00"},
    ],
)
async def test_an_outcome_that_no_row_could_hold_is_not_ours(changes: dict[str, Any]) -> None:
    value = {**msgspec.json.decode(encode(outcome())), **changes}
    _, output = await process(NAMES.outcomes, of(NAMES.outcomes, msgspec.json.encode(value)))
    assert payload(output).outcomes == []


def foreign(topic: str) -> float:
    return float(metrics.FOREIGN.labels(topic)._value.get())


@pytest.mark.parametrize("value", [b"nonsense", b"{}", b"", None])
@pytest.mark.parametrize("topic", [NAMES.outcomes, NAMES.shadows, NAMES.summaries, NAMES.dead_letters])
async def test_what_is_no_message_of_ours_is_counted_logged_and_passed_over(
    topic: str, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    before = foreign(topic)
    _, output = await process(topic, of(topic, value, 7), of(topic, value, 8))
    batch = payload(output)
    assert not (batch.outcomes or batch.shadows or batch.summaries or batch.dead_letters)
    assert (batch.start, batch.end) == (7, 9)
    assert foreign(topic) == before + 2
    said: list[Any] = [each for each in caplog.records if "not a message of ours" in each.message]
    assert [(each.topic, each.partition, each.offset) for each in said] == [(topic, 3, 7), (topic, 3, 8)]


async def test_what_no_table_can_hold_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Store:
        async def write(self, _batch: SinkBatch) -> WriteResult:
            return WriteResult(unfit=[Unfit("d0-1", "too much"), Unfit("d0-2", "too odd")])

    store: Any = Store()
    tp = TopicPartition(NAMES.outcomes, 3)
    before = foreign(tp.topic)
    _, output = await process(tp.topic, of(tp.topic, outcome(1)), of(tp.topic, outcome(2), 1))
    await Database(store, tp, "cluster", "1", "").commit(output)
    assert foreign(tp.topic) == before + 2
    said: list[Any] = [each for each in caplog.records if "no table can hold" in each.message]
    assert [(each.of, each.error) for each in said] == [("d0-1", "too much"), ("d0-2", "too odd")]


async def test_shadows_are_decoded_and_of_summaries_only_ledgers_matter() -> None:
    _, output = await process(NAMES.shadows, of(NAMES.shadows, shadow()), of(NAMES.shadows, b"{", 1))
    assert payload(output).shadows == [shadow()]
    ledger = Summary(
        at=START,
        lane="decisions",
        ledger=Ledger(topic="t", partition=0, start=0, end=1, requests=1, outcomes=1),
    )
    sums = Summary(at=START, lane="decisions", arms=[ArmSummary(agent="a", arm="control", decisions=1)])
    _, output = await process(NAMES.summaries, of(NAMES.summaries, sums), of(NAMES.summaries, ledger, 1))
    assert payload(output).summaries == [ledger]


async def test_bad_feedback_is_a_dead_letter_with_its_place_and_the_good_goes_on() -> None:
    good = feedback(rating=4.0)
    _, output = await process(
        NAMES.feedback,
        of(NAMES.feedback, good, 7),
        of(NAMES.feedback, b"nonsense", 8),
        of(NAMES.feedback, feedback(rating=9.0), 9),
        of(NAMES.feedback, feedback(), 10, key=b"other"),
    )
    assert payload(output).feedback == [good]
    letters = [dict(headers) for _, _, headers in output.messages[NAMES.dead_letters, 3 % 2]]
    assert [(each["reason"], each["field"], each["offset"]) for each in letters] == [
        (b"not_json", b"value", b"8"),
        (b"wrong_type", b"rating", b"9"),
        (b"bad_key", b"key", b"10"),
    ]
    assert all(each["topic"].decode() == NAMES.feedback for each in letters)


async def test_dead_letters_become_rows_by_their_headers_whatever_the_sender_wrote() -> None:
    forged = [("topic", b"forged"), ("offset", b"x")]
    bad = record(b"bytes", offset=41, partition=2, headers=forged)
    key, value, headers = letter(Rejected(bad, InvalidMessage("not_json", "value", "JSON")), 1_000)
    foreign = of(NAMES.dead_letters, b"x", 1)
    _, output = await process(
        NAMES.dead_letters, of(NAMES.dead_letters, value, 0, key=key, headers=headers), foreign
    )
    (row,) = payload(output).dead_letters
    assert (row.reason, row.field, row.expected) == ("not_json", "value", "JSON")
    assert (row.topic, row.partition, row.offset, row.attempt) == ("decision-requests", 2, 41, 1)


def test_the_key_of_feedback_is_the_unit_where_there_is_one_else_the_decision() -> None:
    assert check_feedback(of(NAMES.feedback, feedback(unit="u"), key=b"u")).unit == "u"
    assert check_feedback(of(NAMES.feedback, feedback(), key=b"r1"))
    for event, key in ((feedback(unit="u"), b"r1"), (feedback(), None)):
        with pytest.raises(InvalidMessage, match="key"):
            check_feedback(of(NAMES.feedback, event, key=key))


@given(st.none() | st.binary(max_size=200), st.none() | st.binary(max_size=10))
def test_any_bytes_are_feedback_or_break_the_contract_by_a_known_reason(
    value: bytes | None, key: bytes | None
) -> None:
    try:
        check_feedback(of(NAMES.feedback, value, key=key))
    except InvalidMessage as error:
        assert error.reason in dead_letter.REASONS and error.field  # noqa: PT017 - whether it raises is open


@given(
    st.binary(max_size=200), st.sampled_from(["outcomes", "shadows", "summaries", "dead_letters", "feedback"])
)
def test_no_bytes_hold_the_sink_up(value: bytes, name: str) -> None:
    import asyncio

    topic = getattr(NAMES, name)
    _, output = asyncio.run(process(topic, of(topic, value)))
    assert payload(output).end == 1


@pytest.mark.parametrize(
    ("sender", "key", "counts"),
    [
        ("monitor", KEY, True),
        ("monitor", KEY * 2, False),
        ("other", KEY, False),
        ("stranger", KEY, False),
        ("", KEY, False),
        ("monitor", None, False),
    ],
)
async def test_a_violation_is_authorised_by_the_signature_of_its_sender(
    sender: str, key: str | None, counts: bool
) -> None:
    event = feedback("f1", sender=sender, critical_error="it deleted a page", rating=1)
    headers = [] if key is None else [(HEADER, sign(key, encode(event)))]
    before = metrics.UNSIGNED.labels("critical_error")._value.get()
    _, output = await process(NAMES.feedback, of(NAMES.feedback, event, headers=headers))
    assert payload(output).authorised == [counts]
    assert metrics.UNSIGNED.labels("critical_error")._value.get() - before == (0 if counts else 1)


async def test_what_is_no_violation_needs_no_signature_and_nobody_is_warned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, output = await process(NAMES.feedback, of(NAMES.feedback, feedback("f1", label="yes")))
    assert payload(output).authorised == [False]
    assert not caplog.records
