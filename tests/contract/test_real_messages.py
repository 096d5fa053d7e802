"""What the lane really sends is what the contracts say: checked against the JSON Schemas by a program that is not ours."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from pointsman.models.agent import Agent
from pointsman.models.registry import load_agents
from pointsman.schemas import export, topics
from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.control import Flag
from pointsman.schemas.outcome import Cause, Outcome, Place
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN, Redriven
from pointsman.streams import contracts
from pointsman.streams.letters import read
from pointsman.streams.model.failure import ModelFailure
from pointsman.streams.output import Message
from pointsman.streams.redrive import Redriver, message_headers
from tests.builders import Score, agent, feedback, record, request
from tests.unit.streams.decisions.decision_world import NAMES, World

TYPES = {type_.__name__: type_ for type_ in export.CONTRACTS}
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@cache
def validator(name: str) -> Draft202012Validator:
    schema = export.dead_letter_headers() if name == export.DEAD_LETTER else export.json_schema(TYPES[name])
    return Draft202012Validator(schema, format_checker=FormatChecker())


def failing(_: Any) -> Any:
    raise ModelFailure("model_timeout")


async def sent(world: World, percentage: float, **changes: Any) -> None:
    """Valid requests, bad ones, a repeat; and all that follows from them."""
    world.flag(percentage, 1)
    for n, p in enumerate((0.95, 0.7, 0.55)):
        value = request(f"r{n}", **{"input": {"p": p, "text": "é\u0000\u2028"}, "unit": f"u-{n}", **changes})
        world.broker.produce(msgspec.json.encode(value), f"u-{n}".encode())
    world.broker.produce(msgspec.json.encode(request("r9", requested_at="2026-01-01T02:00:00+02:00")), b"r9")
    world.broker.requests = [
        msgspec.structs.replace(each, headers=(TRACE,)) for each in world.broker.requests
    ]
    for value_, key in ((b"nonsense", b"x"), (None, None), (b"x" * 300_000, b"k")):
        world.broker.produce(value_, key)
    await world.caught_up()
    await world.until(lambda: not world.work._later.asking)
    await world.stop()


WORLDS = {
    "shadow": (lambda: World(scorer=Score()), 0.0),
    "model": (lambda: World(scorer=Score()), 100.0),
    "fallback": (lambda: World(scorer=Score(served=failing, shadow=failing)), 100.0),
    "rules only": (lambda: World(model=False), 0.0),
    "approval": (lambda: World(agents=[agent(policy="APPROVAL_REQUIRED")], scorer=Score()), 0.0),
}


@pytest.mark.parametrize("name", WORLDS)
async def test_everything_that_is_sent_keeps_its_contract(name: str) -> None:
    make, percentage = WORLDS[name]
    world = make()
    await sent(world, percentage)
    seen = set()
    for topic in topics.ALL:
        for message in world.broker.committed.get(topic.name, []):
            check(topic, message)
            seen.add(topic.name)
    assert {NAMES.outcomes, NAMES.summaries, NAMES.dead_letters} <= seen
    assert (NAMES.escalations in seen) is (name != "model")  # the model is sure enough of all
    assert (NAMES.shadows in seen) is (name in ("shadow", "approval"))


def check(topic: topics.Topic, message: Message) -> None:
    key, value, headers = message
    if topic is topics.DEAD_LETTERS:
        validator(export.DEAD_LETTER).validate({each: raw.decode() for each, raw in headers})
        return
    assert value is not None
    plain = msgspec.json.decode(value)
    validator(topic.carries).validate(plain)
    decoded = Decoder(TYPES[topic.carries]).decode(value)
    known = set(type(decoded).__struct_fields__)
    assert set(plain) <= known
    if topic is topics.OUTCOMES:
        assert set(plain) == known - {"history", "state"}, (
            "an outcome has exactly its fields, whatever their values"
        )
    assert key is not None
    if "decision_id" in plain:
        assert key == plain["decision_id"].encode()
        assert {name for name, _ in headers} <= {"traceparent", "tracestate"}
        if topic is topics.OUTCOMES and plain["decision_id"] != "r9":
            assert headers[0][1][:35] == TRACE[1][:35]


async def test_a_contract_that_is_broken_would_be_seen() -> None:
    world = World(scorer=Score())
    await sent(world, 0.0)
    plain = msgspec.json.decode(world.broker.committed[NAMES.outcomes][0][1] or b"")
    for field, value in (
        ("features", []),
        ("input", "x"),
        ("decided_at", 5),
        ("revision", 2),
        ("arm", "both"),
    ):
        assert list(validator("Outcome").iter_errors({**plain, field: value})), field
    del plain["source"]
    assert list(validator("Outcome").iter_errors(plain))


async def test_what_passes_through_is_what_came() -> None:
    world = World(scorer=Score())
    await sent(world, 0.0)
    by_id = {outcome.decision_id: outcome for outcome in world.broker.outcomes()}
    assert msgspec.json.decode(by_id["r0"].input) == {"p": 0.95, "text": "é\u0000\u2028"}
    assert msgspec.json.decode(by_id["r0"].features) == {"p": 0.95, "letters": 3.0}
    assert isinstance(by_id["r0"], Outcome)


@pytest.mark.parametrize(
    "message",
    [
        feedback(label="yes", rating=4.5, comment="good", cost=0.25, tokens=12, signal="edited"),
        feedback(task_completed_at=feedback().observed_at, unit="u"),
        Flag(
            name="small-rollout",
            percentage=5,
            version=1,
            seed="s",
            changed_at=feedback().observed_at,
            changed_by="somebody",
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_others_write_keeps_its_contract_too(message: msgspec.Struct) -> None:
    validator(type(message).__name__).validate(msgspec.json.decode(encode(message)))


AGENTS = load_agents()


@pytest.mark.parametrize("name", AGENTS)
def test_an_agents_examples_keep_its_exported_input_contract(name: str) -> None:
    each: Agent = AGENTS[name]
    schema = contracts.inputs({name: each})[f"{name}.json"]
    for example in each.examples:
        Draft202012Validator(schema).validate(msgspec.json.decode(msgspec.json.encode(example)))
    assert list(Draft202012Validator(schema).iter_errors({}))


async def test_what_waits_and_what_it_leads_to_keeps_its_contract() -> None:
    world = World(scorer=Score(), retry_reasons=("feature_error",), retry_delays_ms=(1, 2))
    place = Place(topic="decision-requests", partition=0, offset=3)
    cause = Cause(reason="feature_error", field="input", expected="x")
    again = Redriven(count=1, place=place, letter=place, first_error=cause)
    for id_, text in (("a", "boom"), ("b", "fine")):
        value = msgspec.json.encode(request(id_, input={"text": text}))
        world.broker.produce(value, id_.encode(), headers=(TRACE, (HEADER_REDRIVEN, encode(again))))
    await world.settled()
    await world.stop()
    for tp in world.inputs[1:]:
        ((_, value, headers),) = world.broker.committed[tp.topic]
        validator("DecisionRequest").validate(msgspec.json.decode(value))
        assert [name for name, _ in headers] == [HEADER_KEPT, "traceparent", HEADER_REDRIVEN]
        validator("Kept").validate(msgspec.json.decode(dict(headers)[HEADER_KEPT]))
    ((_, _, headers),) = letters = world.broker.letters()
    check(topics.DEAD_LETTERS, letters[0])
    validator("Kept").validate(msgspec.json.decode(dict(headers)[HEADER_KEPT]))
    ((_, value, _),) = world.broker.committed[NAMES.outcomes]
    plain = msgspec.json.decode(value or b"")
    validator("Outcome").validate(plain)
    assert plain["history"]["redriven"] == 1
    message = message_headers(read(record(letters[0][1], key=b"a", offset=8, headers=headers)))
    validator("Redriven").validate(msgspec.json.decode(dict(message)[HEADER_REDRIVEN]))
    assert [name for name, _ in message] == ["traceparent", HEADER_REDRIVEN]
    note = Redriver("", NAMES, group="g", by="me")._note(
        read(record(b"x", offset=8, headers=headers)), feedback().observed_at
    )
    validator("Redrive").validate(msgspec.json.decode(encode(note)))
    assert note.count == 2
