"""Requests whose features fail are counted by agent; those on which the rules fail are not taken for such."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from pointsman.models.state import NOTE_BYTES_MAX, Changes, KeyedState, Learned, Units
from pointsman.schemas.codec import Decoder
from pointsman.schemas.request import DecisionRequest
from pointsman.streams.decisions.features import compute
from pointsman.streams.decisions.validate import Accepted
from tests.builders import agent, request, valid


def accepted(texts: list[str]) -> list[Accepted]:
    made = []
    for number, each in enumerate(texts):
        plain = request(f"r{number}", input={"text": each})
        asked = Decoder(DecisionRequest).decode(msgspec.json.encode(plain))
        decoded = Decoder(agent().input_type, "input").decode(msgspec.json.encode(plain["input"]))
        made.append(Accepted(valid(f"r{number}", number), asked, decoded, 0))
    return made


@pytest.mark.parametrize(
    ("texts", "reasons", "counted"),
    [
        (["boom", "fine", "boom"], ["feature_error", "feature_error"], 2.0),
        (["seven--", "fine"], ["rules_error"], None),
        (["x", "boom", "seven--"], ["feature_error", "rules_error"], 1.0),
        (["fine"], [], None),
    ],
)
def test_only_what_fails_in_the_features_counts_as_that(
    texts: list[str], reasons: list[str], counted: float | None
) -> None:
    made = agent(f"small-{uuid.uuid4().hex[:8]}")
    computed = compute(made, accepted(texts))
    assert sorted(each.error.reason for each in computed.bad) == reasons
    assert REGISTRY.get_sample_value("pointsman_feature_errors_total", {"agent": made.name}) == counted


def test_a_note_that_cannot_be_kept_fails_its_own_request_and_no_other() -> None:
    def note(inputs: Sequence[Any]) -> list[Any]:
        return ["x" * (NOTE_BYTES_MAX if each.text == "much" else 3) for each in inputs]

    plain = agent(f"small-{uuid.uuid4().hex[:8]}")
    state = KeyedState(version="1", note=note, learn=lambda *_: Learned({}, None))
    made = replace(plain, state=state, features=lambda inputs, _: plain.features(inputs))
    computed = compute(made, accepted(["fine", "much", "fine"]), Changes(Units(state)))
    (bad,) = computed.bad
    assert (bad.request_id, bad.error.reason) == ("r1", "feature_error")
    assert computed.notes == ["xxx", "xxx"]
