"""A message that no column can hold is passed over; the others of its batch are written, and the position moves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest
from msgspec.structs import replace

from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.outcome import History, Outcome, Place, Timings
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.store import AuditStore
from tests.integration.store.helpers import CLUSTER, LANE, OUTCOMES, batch, count
from tests.support.outcomes import answer, outcome, shadow

LONG = "".join(f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(400))
"""Too long for an index, also when compressed."""

ODD: dict[str, dict[str, Any]] = {
    "features with a zero character": {"features": msgspec.Raw(b'{"\\u0000":1}')},
    "features that no number type holds": {"features": msgspec.Raw(b'{"a":' + b"9" * 200_000 + b"}")},
    "features that are no UTF-8": {"features": msgspec.Raw(b'{"a\xff":1}')},
    "an endless latency": {"timings": Timings(total_ms=1e306, features_ms=0.0)},
    "a long latency": {"timings": Timings(total_ms=1e18, features_ms=0.0)},
    "a confidence of 10^300": {"confidence": 1e300},
    "an agent that is no key": {"agent": LONG},
    "a reason that is no key": {"fallback_reason": LONG},
    "an id that is no key": {"decision_id": LONG},
    "a decision in the year 9999": {"decided_at": datetime(9999, 6, 1, tzinfo=UTC)},
    "a topic with a zero character": {"place": Place(topic="a\0b", partition=0, offset=5)},
    "a history in a topic that is none": {
        "history": History(attempts=2, taken_from=Place(topic="a\0b", partition=0, offset=5))
    },
    "a history that began in no topic": {
        "history": History(redriven=1, first_place=Place(topic="\0", partition=0, offset=5))
    },
    "more attempts than a column holds": {"history": History(attempts=2**40)},
    "more redrives than a column holds": {"history": History(redriven=-(2**63))},
}


@pytest.mark.parametrize("name", ODD)
async def test_an_outcome_that_no_column_holds_is_passed_over(
    name: str, store: AuditStore, people: psycopg.Connection
) -> None:
    odd = outcome(1, **ODD[name])
    assert isinstance(Decoder(Outcome).decode(encode(odd)), Outcome), "it breaks no contract"
    given = batch(0, 3, [outcome(0), odd, outcome(2)], trace_ids=["0" * 32, None, "2" * 32])
    result = await store.write(given)
    (unfit,) = result.unfit
    assert unfit.name == odd.decision_id
    assert unfit.why
    assert result.outcomes == 2
    assert await store.position(LANE, CLUSTER, OUTCOMES, 0) == 3
    written = people.execute(
        "SELECT decision_id, trace_id FROM ml_learning.agent_decisions ORDER BY 1"
    ).fetchall()
    assert written == [("d0-0", "0" * 32), ("d0-2", "2" * 32)]


async def test_a_shadow_and_a_ledger_that_no_column_holds_are_passed_over(
    store: AuditStore, people: psycopg.Connection
) -> None:
    odd = shadow(1, place=Place(topic="\0", partition=0, offset=1))
    long = shadow(2, answer=answer(LONG))
    ledger = Ledger(topic="a\0", partition=0, start=0, end=1)
    longer = Summary(at=datetime.now(UTC), lane=LONG, ledger=replace(ledger, topic="a"))
    summaries = [Summary(at=datetime.now(UTC), lane="decisions", ledger=ledger), longer]
    result = await store.write(batch(0, 1, shadows=[shadow(0), odd, long], summaries=summaries))
    assert [each.why for each in result.unfit] == [
        "topic is no name of a topic",
        "decision_id and decider: 6404 bytes are no key",
        "topic is no name of a topic",
        "lane: 6400 bytes are no key",
    ]
    assert count(people, "decision_shadows") == 1
    assert count(people, "lane_ledger") == 0


async def test_what_fits_and_fails_all_the_same_is_no_reason_to_leave_anything_out(
    store: AuditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OverflowError("ours")

    monkeypatch.setattr("pointsman.streams.store.writes._add_minutes", fail)
    with pytest.raises(OverflowError, match="ours"):
        await store.write(batch(0, 1, [outcome(0)]))
    assert await store.position(LANE, CLUSTER, OUTCOMES, 0) is None
