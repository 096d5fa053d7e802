"""What the first version writes and takes stays readable: every contract in its smallest form, kept here as text.

Change no text here. A later version may add fields, never demand them of those that wrote before it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.control import Flag
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Escalation, Outcome, ShadowAnswer
from pointsman.schemas.request import DecisionRequest
from pointsman.schemas.retry import Kept, Redrive, Redriven
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.decisions.remember import recalled
from pointsman.streams.decisions.tally import Metadata, decode_metadata

PLACE = '{"topic":"decision-requests","partition":2,"offset":7}'
CAUSE = '{"reason":"try_later","field":"input","expected":"x"}'
ANSWER = '{"decider":"rules@1","prediction":"yes","score":0.9,"confidence":0.9,"reason":"r"}'
LEDGER = '{"topic":"decision-requests","partition":2,"start":5,"end":7,"requests":2,"outcomes":2}'
FORMS: dict[type[Any], str] = {
    DecisionRequest: '{"id":"r1","agent":"small","input":{"p":0.9}}',
    Feedback: '{"id":"f1","decision_id":"r1","agent":"small","observed_at":"2026-11-01T12:00:00Z"}',
    Outcome: '{"decision_id":"r1","agent":"small","unit":null,"status":"final","revision":1,"success":true,'
    '"source":"deterministic","arm":"control","prediction":"yes","confidence":0.9,"reason":"r","action":"act",'
    '"needs_review":false,"fallback_reason":null,"answers":{"rules":' + ANSWER + "},"
    '"flag":{"name":"small-rollout","percentage":5.0,"version":3},'
    '"versions":{"pointsman":"0.1.0","features":"1","rules":"rules@1"},"features":{"p":0.9},"input":{"p":0.9},'
    '"requested_at":null,"decided_at":"2026-11-01T12:00:00Z","timings":{"total_ms":9.4,"features_ms":0.01},'
    '"place":' + PLACE + ',"content_hash":"9c1f0a4be3d2a771"}',
    ShadowAnswer: '{"decision_id":"r1","agent":"small","answer":' + ANSWER + ","
    '"answered_at":"2026-11-01T12:00:00Z","place":' + PLACE + "}",
    Escalation: '{"decision_id":"r1","agent":"small","unit":null,"status":"final","prediction":"yes",'
    '"confidence":0.5,"reason":"r","why":"low_confidence","escalated_at":"2026-11-01T12:00:00Z","place":'
    + PLACE
    + "}",
    Summary: '{"at":"2026-11-01T12:00:00Z","lane":"decisions"}',
    Ledger: LEDGER,
    Flag: '{"name":"small-rollout","percentage":5.0,"version":3,"seed":"s","changed_at":"2026-11-01T12:00:00Z",'
    '"changed_by":"me"}',
    Kept: '{"attempt":2,"place":' + PLACE + ',"requested_ms":1790000000000,"first_error":' + CAUSE + "}",
    Redriven: '{"count":1,"place":' + PLACE + ',"letter":' + PLACE + ',"first_error":' + CAUSE + "}",
    Redrive: '{"letter":' + PLACE + ',"letter_ms":1790000000000,"to":"decision-requests","partition":2,'
    '"reason":"try_later","count":1,"redriven_at":"2026-11-01T12:00:00Z","redriven_by":"me"}',
}


@pytest.mark.parametrize("type_", FORMS, ids=lambda type_: type_.__name__)
def test_the_first_form_of_each_message_is_read_and_nothing_of_it_is_lost(type_: type[Any]) -> None:
    text = FORMS[type_]
    found = msgspec.json.decode(encode(Decoder(type_).decode(text.encode())))
    for name, value in msgspec.json.decode(text).items():
        assert told(found.get(name), value), name


def told(found: Any, value: Any) -> bool:
    """Whether all of a value is there; what came later may stand beside it."""
    if isinstance(value, dict):
        return all(told(found[name], each) for name, each in value.items())
    return bool(found == value)


@pytest.mark.parametrize("more", ["", ',"of_a_later_version":{"x":[1]}'])
def test_the_first_form_of_what_is_committed_beside_an_offset_is_read(more: str) -> None:
    assert decode_metadata('{"even":{"small":[3,7]}' + more + "}") == Metadata(even={"small": (3, 7)})
    found = decode_metadata('{"ledger":' + LEDGER + more + "}")
    assert found.ledger is not None
    assert (found.ledger.start, found.ledger.end, found.ledger.outcomes) == (5, 7, 2)
    assert (found.even, found.waited, found.token) == ({}, [], 0)


def test_the_ids_of_outcomes_in_their_first_form_are_remembered() -> None:
    found = recalled(FORMS[Outcome].encode())
    assert found is not None
    assert found[0] == "r1"
