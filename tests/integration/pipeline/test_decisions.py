"""Requests in, outcomes out, on a real broker, with clients that are not ours."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Producer

from pointsman.schemas.codec import Decoder
from pointsman.schemas.outcome import Outcome
from tests.support.kafka import console_consumer
from tests.support.pipeline import Pipeline, account, async_wait_for, request

FLAG = "ml-agent-rollout"


async def test_every_request_gets_one_outcome_that_a_java_client_reads(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=50)
    pipeline.worker().wait_ready()
    pipeline.send(request(number) for number in range(300))

    lines = console_consumer(pipeline.bootstrap, pipeline.names.outcomes, count=300, timeout_s=30)

    outcomes = [Decoder(Outcome).decode(line.encode()) for line in lines]
    assert account([f"r-{n}" for n in range(300)], [each.decision_id for each in outcomes]).clean
    assert {each.arm for each in outcomes} == {"candidate", "control"}
    assert {each.answers.rules.decider for each in outcomes} == {"rules@2"}


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_a_producer_may_compress_as_it_likes(pipeline: Pipeline, compression: str) -> None:
    await pipeline.prepare()
    pipeline.worker().wait_ready()
    producer = Producer(
        {"bootstrap.servers": pipeline.bootstrap, "compression.type": compression, "linger.ms": 200}
    )
    for number in range(200):
        key, value = request(number)
        producer.produce(pipeline.names.requests, value, key)
    assert producer.flush(30) == 0

    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 200)

    assert account([f"r-{n}" for n in range(200)], [each.key().decode() for each in outcomes]).clean


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_outcomes_can_be_compressed(pipeline: Pipeline, compression: str) -> None:
    await pipeline.prepare()
    pipeline.worker(compression=compression).wait_ready()
    pipeline.send(request(number) for number in range(100))

    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 100)

    assert account([f"r-{n}" for n in range(100)], [each.key().decode() for each in outcomes]).clean


BAD = {
    "not JSON": (b"k", b"{", "not_json", "value"),
    "wrong type": request("wrong", input={"repository": 3, "subject": "s", "files": []})
    + ("wrong_type", "input.repository"),
    "huge integer": request(
        "huge", input={"repository": "r", "subject": "s", "files": [{"path": "p", "added": 10**400}]}
    )
    + ("wrong_type", "input.files[0].added"),
    "NaN": (
        b"k",
        b'{"id":"k","agent":"documentation-keeper","input":{"body_lines":NaN}}',
        "not_json",
        "value",
    ),
    "missing field": (b"k", b'{"id":"k","input":{}}', "missing_field", "agent"),
    "unknown agent": request("agent", agent="nobody") + ("unknown_agent", "agent"),
    "1 MB": request("large", input={"subject": "x" * 900_000}) + ("too_large", "value"),
    "deep nesting": (
        b"deep",
        b'{"id":"deep","agent":"documentation-keeper","input":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "too_deep",
        "value",
    ),
    "null key": (None, request("keyless")[1], "bad_key", "key"),
    "no value": (b"k", None, "empty_value", "value"),
}


async def test_bad_input_becomes_dead_letters_and_its_neighbours_are_decided(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    pipeline.worker(retry_reasons="").wait_ready()
    records = []
    for number, (key, value, _, _) in enumerate(BAD.values()):
        records += [request(2 * number), (key, value), request(2 * number + 1)]
    pipeline.send(records, partition=0)

    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 2 * len(BAD))
    letters = pipeline.read(pipeline.names.dead_letters, lambda found: len(found) >= len(BAD))

    assert account([f"r-{n}" for n in range(2 * len(BAD))], [each.key().decode() for each in outcomes]).clean
    assert len(letters) == len(BAD)
    by_offset = {dict(letter.headers())["offset"]: letter for letter in letters}
    for number, (what, (key, value, reason, field)) in enumerate(BAD.items()):
        letter = by_offset[str(3 * number + 1).encode()]
        headers = dict(letter.headers())
        assert (headers["reason"].decode(), headers["field"].decode()) == (reason, field), what
        assert headers["expected"], what
        assert letter.key() == key, what
        if reason == "too_large":
            assert json.loads(letter.value())["bytes"] == len(value or b"")
        else:
            assert letter.value() == value, what


async def test_a_repeated_request_gets_no_second_outcome_even_after_a_restart(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    first = pipeline.worker().wait_ready()
    pipeline.send([request(1), request(2), request(1)])
    pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 2)
    assert first.stop() == 0
    pipeline.worker().wait_ready()
    pipeline.send(
        [request(2), request(1, input={"repository": "other", "subject": "s", "files": []}), request(3)]
    )

    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 3)
    (letter,) = pipeline.read(pipeline.names.dead_letters, lambda found: len(found) >= 1)

    assert sorted(each.key() for each in outcomes) == [b"r-1", b"r-2", b"r-3"]
    assert dict(letter.headers())["reason"] == b"id_reused"


async def test_trace_context_is_carried_on(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    pipeline.worker().wait_ready()
    producer = Producer({"bootstrap.servers": pipeline.bootstrap})
    key, value = request(1)
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    producer.produce(pipeline.names.requests, value, key, headers=[("traceparent", trace)])
    producer.flush(30)

    (outcome,) = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 1)

    version, trace_id, span, flags = dict(outcome.headers())["traceparent"].split(b"-")
    assert (version, trace_id, flags) == (b"00", b"0af7651916cd43dd8448eb211c80319c", b"01")
    assert span != b"b7ad6b7169203331"


async def test_a_flag_change_reaches_a_running_worker(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=0)
    worker = pipeline.worker().wait_ready()
    pipeline.send(request(number) for number in range(100))
    before = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 100)
    await pipeline.flag(FLAG, 100)
    await async_wait_for(lambda: worker.report("health")["flags"].get(FLAG) == 100, "the flag to arrive")
    pipeline.send(request(number) for number in range(100, 200))
    both = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 200)

    arms = {json.loads(each.value())["decision_id"]: json.loads(each.value())["arm"] for each in both}
    assert {json.loads(each.value())["arm"] for each in before} == {"control"}
    assert {arms[f"r-{n}"] for n in range(100, 200)} == {"candidate"}


async def test_an_agent_outside_of_the_package_is_served(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    pipeline.worker().wait_ready()
    pipeline.send(
        [request(1, agent="ticket-urgency", input={"subject": "Site is down", "plan": "enterprise"})]
    )

    (outcome,) = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 1)

    assert json.loads(outcome.value())["prediction"] == "urgent"


async def test_live_figures_come_from_the_summaries(pipeline: Pipeline) -> None:
    await pipeline.prepare(flag=FLAG, percentage=50)
    worker = pipeline.worker().wait_ready()
    pipeline.send(request(number) for number in range(200))

    def counted() -> bool:
        live = (worker.report("live") or {}).get("documentation-keeper", {})
        return sum((live[arm]["last_hour"] or {"decisions": 0})["decisions"] for arm in live) == 200

    await async_wait_for(counted, "200 decisions in the live figures")


def test_the_account_finds_a_planted_loss_and_a_planted_double() -> None:
    """Negative control of the checker that these tests and the kill tests use."""
    ids = [f"r-{n}" for n in range(10)]
    assert account(ids, ids).clean
    assert account(ids, ids[1:]).lost == ["r-0"]
    assert account(ids, [*ids, "r-3"]).doubled == ["r-3"]
    assert account(ids, [*ids, "r-99"]).unknown == ["r-99"]
