"""What the dashboards show of an hour is what the raw topics say, recomputed with pandas."""

from __future__ import annotations

import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from confluent_kafka import Producer

from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.signature import HEADER, sign
from pointsman.streams.dashboards import ask, draw, panels
from pointsman.streams.dashboards.ask import Window
from pointsman.streams.dashboards.page import page
from tests.support.compared import SQL, differing, told
from tests.support.kafka import Kafka
from tests.support.pipeline import Pipeline, async_wait_for, request
from tests.support.recomputed import Recomputed, Series

AGENT, FLAG = "documentation-keeper", "ml-agent-rollout"
STAGES = [(0, 150), (50, 300), (20, 250)]
"""Percentage and how many requests under it."""
SILENT = 60
"""Requests while the model does not answer."""
KEY = "a key of the deployment"


def change(number: int, chance: random.Random) -> Any:
    """A request like a real commit's: of some size, in some folder, with some words."""
    word = chance.choice(["Add option", "Fix crash in", "Refactor", "Remove", "Support"])
    files = [
        {
            "path": f"{chance.choice(['src/app', 'lib', 'tests', 'examples', 'deep/er/and/deeper'])}/part{chance.randrange(9)}.py",
            "added": chance.randrange(200),
            "removed": chance.randrange(50),
            "status": chance.choice("MMMA"),
        }
        for _ in range(chance.randrange(1, 6))
    ]
    return request(
        number, input={"repository": "octo/engine", "subject": f"{word} part {number}", "files": files}
    )


async def decided(pipeline: Pipeline, chance: random.Random) -> tuple[list[Outcome], list[ShadowAnswer]]:
    """Real decisions under three stages of the flag, with the shadow answers of the first."""
    await pipeline.prepare(flag=FLAG, percentage=0)
    worker = pipeline.worker("decisions").wait_ready()
    sent = 0
    for percentage, count in STAGES:
        if sent:
            await pipeline.flag(FLAG, percentage)
            await async_wait_for(lambda wanted=percentage: _follows(pipeline, wanted), f"{percentage} %")  # type: ignore[misc]
        sent = _decide(pipeline, chance, sent, count)
    os.kill(
        worker.model_pid(), signal.SIGSTOP
    )  # the last ones are answered by the rules in the model's place
    sent = _decide(pipeline, chance, sent, SILENT)
    os.kill(worker.model_pid(), signal.SIGCONT)
    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= sent)
    shadows = pipeline.read(pipeline.names.shadows, lambda found: len(found) >= STAGES[0][1])
    decode = msgspec.json.decode
    return (
        [decode(each.value(), type=Outcome) for each in outcomes],
        [decode(each.value(), type=ShadowAnswer) for each in shadows],
    )


def _decide(pipeline: Pipeline, chance: random.Random, sent: int, count: int) -> int:
    """So many requests more, until they are decided; how many there are now."""
    wanted = sent + count
    pipeline.send(change(number, chance) for number in range(sent, wanted))
    pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= wanted)
    return wanted


def _follows(pipeline: Pipeline, percentage: float) -> bool:
    """Whether the worker has the flag's new value."""
    report = pipeline.workers[0].report("health") or {}
    return bool(report.get("flags", {}).get(FLAG) == percentage)


@pytest.mark.timeout(240)
async def test_every_figure_of_an_hour_is_that_of_the_raw_topics(
    kafka: Kafka, pipeline: Pipeline, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    chance = random.Random(5)
    outcomes, shadows = await decided(pipeline, chance)
    # Decided within seconds, in truth; the same decisions spread over an hour, as the sink would have met them.
    start = (datetime.now(UTC) - timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    order = sorted(outcomes, key=lambda each: (each.flag.version, each.place.partition, each.place.offset))
    spread = [
        msgspec.structs.replace(
            each,
            decided_at=start + timedelta(seconds=3600 * n / len(order), milliseconds=chance.randrange(999)),
        )
        for n, each in enumerate(order)
    ]
    events = [
        event for each in spread for event in told(each, chance, each.decided_at + timedelta(minutes=5))
    ]

    later = Pipeline(kafka.bootstrap, database, f"{topic_prefix}b-", tmp_path / "later")
    later.folder.mkdir()
    try:
        await later.prepare()
        config = later.folder / "pointsman.toml"
        config.write_text(f'[feedback_keys]\nmonitor = "{KEY}"\n')
        _publish(later, spread, shadows, events)
        sink = later.worker("sink", config=str(config))
        sink.wait_ready()
        later.wait_rows("SELECT count(*) FROM ml_learning.agent_decisions", len(spread))
        later.wait_rows("SELECT count(*) FROM ml_learning.feedback_events", len(events))
        later.wait_rows("SELECT count(*) FROM ml_learning.decision_shadows", len(shadows))
        later.wait_rows("SELECT count(*) FROM ml_learning.decision_truths WHERE minute IS NULL", 0)
        expected = Recomputed(spread, shadows, events)
        window = Window(AGENT, start, start + timedelta(hours=1))
        async with await psycopg.AsyncConnection.connect(database, options="-c timezone=UTC") as connection:
            differences = {}
            for name in SQL:
                shown = await ask.of_database(connection, panels.sql(name), window)
                assert shown, f"{name} shows nothing"
                differences[name] = differing(
                    shown, expected.series(name), within=0.011 if name == "latency" else 1e-6
                )
            assert {name: found[:3] for name, found in differences.items() if found} == {}
            changes = await ask.rows(connection, panels.sql("stage_changes"), window)
            assert [text.split(": ")[1] for _, text in changes] == [
                f"{percentage} %" for percentage, _ in STAGES
            ]
            board = panels.of_model(AGENT)
            panels_found, moments = await draw.found(connection, board, window)
        text = page(board, window, panels_found, moments)
        assert text.count("<svg") == len(panels_found) == 8
        assert "no data" not in text
    finally:
        later.close()


def _publish(
    later: Pipeline, outcomes: list[Outcome], shadows: list[ShadowAnswer], events: list[tuple[Feedback, bool]]
) -> None:
    encode = msgspec.json.encode
    producer = Producer({"bootstrap.servers": later.bootstrap})
    partition = {each.decision_id: each.place.partition for each in outcomes}
    for each in (*outcomes, *shadows):
        topic = later.names.outcomes if isinstance(each, Outcome) else later.names.shadows
        producer.produce(topic, encode(each), each.decision_id.encode(), partition=each.place.partition)
    for event, signed in events:
        value = encode(event)
        producer.produce(
            later.names.feedback,
            value,
            (event.unit or event.decision_id).encode(),
            partition=partition[event.decision_id],
            headers=[(HEADER, sign(KEY, value))] if signed else [],
        )
    assert producer.flush(30) == 0


def test_the_comparison_finds_a_figure_that_is_wrong() -> None:
    good: Series = {"a": [(0.0, 1.0), (60.0, 2.0)]}
    assert differing(good, {"a": [(0.0, 1.0), (60.0, 2.0)]}, within=1e-6) == []
    assert differing(good, {"a": [(0.0, 1.0), (60.0, 2.1)]}, within=1e-6)
    assert differing(good, {"a": [(0.0, 1.0)]}, within=1e-6)
    assert differing(good, {"b": [(0.0, 1.0), (60.0, 2.0)]}, within=1e-6)
