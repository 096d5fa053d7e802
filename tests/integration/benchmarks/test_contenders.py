"""Every contender does its task on a real broker: each message answered, with the lane's own answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from benchmarks import roster, throughput
from benchmarks.broker import fill, judge, read_committed
from benchmarks.contenders.decision import Arrived, Decide
from benchmarks.data import requests
from pointsman.infra.dev.real_parts import MissingPartError
from tests.conftest import lack
from tests.support.kafka import Kafka

PLAN = throughput.Plan(messages=300, warm_up=200, runs=1, partitions=4, percent=50.0, commits=None)
HERE = [
    each
    for each in roster.ALL.values()
    if not each.name.startswith("quix") or roster.installed("quixstreams")
]
"""Quix Streams is installed by `make bench` alone."""


@pytest.fixture
def messages() -> list[tuple[bytes, bytes]]:
    return list(requests(PLAN.messages + PLAN.warm_up, None))


def run(
    kafka: Kafka, contender: roster.Contender, messages: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Its outcomes; `throughput.one` has judged them."""
    kept: list[tuple[bytes, bytes]] = []
    found = throughput.one(kafka.bootstrap, contender, PLAN, messages, keep=kept.extend)
    assert found.messages >= round(PLAN.messages * contender.share)
    assert found.wall_s > 0
    assert found.cpu_s > 0
    return kept


@pytest.mark.parametrize("contender", HERE, ids=lambda each: each.name)
def test_a_contender_answers_every_message(
    kafka: Kafka, contender: roster.Contender, messages: list[tuple[bytes, bytes]]
) -> None:
    try:
        contender.needs()
    except MissingPartError as reason:
        lack(str(reason))
    outcomes = run(kafka, contender, messages)
    if not contender.decides:
        return
    ours = expected(messages, model=not contender.rules_only)
    for key, value in outcomes:
        outcome = json.loads(value)
        if (
            outcome["fallback_reason"] is not None
        ):  # a machine so busy that the lane's model missed its deadline
            continue
        assert outcome.keys() - {"state"} == ours[key].keys()  # others keep none
        assert content(outcome) == content(ours[key])


def expected(messages: list[tuple[bytes, bytes]], *, model: bool) -> dict[bytes, dict[str, Any]]:
    decide = Decide(50.0 if model else 0.0, 0.0)
    out = decide([Arrived(value, "requests", 0, i, 0) for i, (_, value) in enumerate(messages)])
    return {key: json.loads(value) for key, value in out}


def content(outcome: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the split, the clock or the place."""
    same = (
        "decision_id",
        "agent",
        "unit",
        "status",
        "revision",
        "success",
        "input",
        "versions",
        "content_hash",
    )
    rounded = {name: pytest.approx(value, rel=1e-12) for name, value in outcome["features"].items()}
    return {name: outcome[name] for name in same} | {"answers": outcome["answers"], "features": rounded}


def test_a_transaction_that_was_given_up_answers_nothing(
    kafka: Kafka, topic_prefix: str, messages: list[tuple[bytes, bytes]]
) -> None:
    """A contender that produces and does not commit has lost all, however quick it was."""
    topic = kafka.create_topic(f"{topic_prefix}out")
    fill(kafka.bootstrap, topic, messages[:100])
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic_prefix})
    producer.init_transactions()
    producer.begin_transaction()
    for key, value in messages[100:]:
        producer.produce(topic, value, key)
    producer.flush()
    producer.abort_transaction()
    answers = judge(messages, read_committed(kafka.bootstrap, topic), decides=False)
    assert (answers.missing, answers.doubled, answers.strange) == (len(messages) - 100, 0, 0)


def test_a_run_that_lost_something_does_not_count(
    kafka: Kafka, messages: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = throughput.read_committed
    monkeypatch.setattr(throughput, "read_committed", lambda *place: whole(*place)[1:])
    with pytest.raises(SystemExit, match="bare does not count: 1 missing outcomes"):
        throughput.one(kafka.bootstrap, roster.ALL["bare"], PLAN, messages)


def test_topics_of_a_run_are_removed(kafka: Kafka, messages: list[tuple[bytes, bytes]]) -> None:
    def topics() -> set[str]:
        return set(AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=20).topics)

    before = topics()
    run(kafka, roster.ALL["bare"], messages)
    assert topics() - before <= {"__consumer_offsets", "__transaction_state"}
