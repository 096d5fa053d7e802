"""What is there after a run: topics as an independent client reads them, tables as the database has them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pointsman.streams.store.check import aggregates_check, ledger_check
from pointsman.streams.topics import Names
from tests.chaos.load import SEQ, digest

READ_S: Final = 120.0
Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An outcome, as its message or its row says it: equal where both say the same."""

    id: str
    place: Place
    status: str
    created_us: int
    digest: str
    """Of everything else that both hold."""
    arm: str
    agent: str
    by_ml: bool
    fallback: str | None
    content_hash: str
    total_ms: float = 0.0
    """From the request's record to the outcome's emission."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: what it is about, and why."""

    place: Place
    reason: str
    digest: str = ""
    """Of its value; empty where only its row is known."""


@dataclass
class Evidence:
    """All that was found."""

    records: dict[Place, tuple[int, str]] = field(default_factory=dict)
    """Requests and feedback in the log: number and digest of the value."""
    outcomes: list[tuple[int, Decided]] = field(default_factory=list)
    """With the partition that each lies in."""
    letters: list[Letter] = field(default_factory=list)
    rows: list[Decided] = field(default_factory=list)
    letter_rows: list[Letter] = field(default_factory=list)
    minutes: dict[tuple[str, str, str], tuple[int, int, int]] = field(default_factory=dict)
    """Agent, minute, arm to decisions, by the model, fallbacks."""
    feedback: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Rows by decision, event and label."""
    labels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Labelled decisions by decision and label."""
    ledger: dict[tuple[str, int], Counter[str]] = field(default_factory=dict)
    """Topic and partition to the sums of its columns."""
    differences: list[str] = field(default_factory=list)
    """What the product's own checks say."""
    open_transactions: list[str] = field(default_factory=list)
    """Partitions whose last stable offset lies before their end."""
    shadows: int = 0
    model_versions: Counter[str] = field(default_factory=Counter)


def collect(bootstrap: str, dsn: str, names: Names) -> Evidence:
    """Read everything."""
    found = Evidence()
    for topic in (names.requests, names.feedback):
        for message in read(bootstrap, topic):
            headers = dict(message.headers() or ())
            value = message.value()
            place = (topic, message.partition(), message.offset())
            found.records[place] = (int(headers[SEQ]), digest(value))
    for message in read(bootstrap, names.outcomes):
        found.outcomes.append((message.partition(), _of_message(json.loads(message.value()))))
    for message in read(bootstrap, names.dead_letters):
        found.letters.append(_letter(message))
    for topic in (names.outcomes, names.shadows, names.dead_letters, names.summaries):
        stable, end = ends(bootstrap, topic, "read_committed"), ends(bootstrap, topic, "read_uncommitted")
        found.open_transactions += [f"{topic}[{p}]" for p in end if stable[p] != end[p]]
    _tables(dsn, found)
    found.differences = asyncio.run(_own_checks(dsn))
    return found


# -- topics -----------------------------------------------------------------------------------------


def read(bootstrap: str, topic: str) -> Iterator[Any]:
    """Every committed record of a topic, up to the last stable offset of each partition."""
    reader = _reader(bootstrap, "read_committed", topic)
    try:
        left = {tp.partition for tp in reader.assignment()}
        deadline = time.monotonic() + READ_S
        while left:
            if time.monotonic() > deadline:
                msg = f"the end of {topic} was not reached within {READ_S:.0f} s"
                raise RuntimeError(msg)
            for message in reader.consume(1_000, 1.0):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
    finally:
        reader.close()


def ends(bootstrap: str, topic: str, isolation: str) -> dict[int, int]:
    """Partition to its end, or to its last stable offset."""
    reader = _reader(bootstrap, isolation, topic)
    try:
        return {
            tp.partition: reader.get_watermark_offsets(tp, timeout=20, cached=False)[1]
            for tp in reader.assignment()
        }
    finally:
        reader.close()


def _reader(bootstrap: str, isolation: str, topic: str) -> Consumer:
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos-reader",
            "isolation.level": isolation,
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 2,
        }
    )
    partitions = reader.list_topics(topic, timeout=20).topics[topic].partitions
    reader.assign([TopicPartition(topic, number, 0) for number in partitions])
    return reader


def _of_message(body: dict[str, Any]) -> Decided:
    answers, flag, versions, timings = body["answers"], body["flag"], body["versions"], body["timings"]
    rules, ml = answers["rules"], answers.get("ml")
    place = body["place"]
    rest = [
        *(body[name] for name in SAME),
        *(rules[name] for name in ANSWER),
        *(ml[name] if ml else None for name in ANSWER),
        *(flag["name"], flag["percentage"], flag["version"]),
        *(versions["pointsman"], versions["features"], versions["rules"], versions.get("ml")),
        *(timings["total_ms"], timings["features_ms"], timings.get("model_ms")),
        *(body["unit"], body["features"], body["input"]),
        _micros(body["requested_at"]),
    ]
    return Decided(
        id=body["decision_id"],
        place=(place["topic"], place["partition"], place["offset"]),
        status=body["status"],
        created_us=_micros(body["decided_at"]) or 0,
        digest=_digest(rest),
        arm=body["arm"],
        agent=body["agent"],
        by_ml=body["source"] == "ml",
        fallback=body["fallback_reason"],
        content_hash=body["content_hash"],
        total_ms=timings["total_ms"],
    )


def _letter(message: Any) -> Letter:
    headers = {name: value.decode() for name, value in message.headers() if name != SEQ}
    place = (headers["topic"], int(headers["partition"]), int(headers["offset"]))
    return Letter(place, headers["reason"], digest(message.value()))


# -- tables -----------------------------------------------------------------------------------------

SAME: Final = (
    "success", "source", "arm", "prediction", "confidence", "reason", "action", "needs_review",
    "fallback_reason", "revision",
)  # fmt: skip
"""Fields of an outcome that its row holds under the same name."""
ANSWER: Final = ("decider", "prediction", "score", "confidence", "reason")
ROWS: Final = """
SELECT decision_id, topic, partition, request_offset, status, created_at, agent_name, content_hash, input_bytes,
    success, source, arm, prediction, confidence, reason, action, needs_review, fallback_reason, revision,
    rules_decider, rules_prediction, rules_score, rules_confidence, rules_reason,
    ml_decider, ml_prediction, ml_score, ml_confidence, ml_reason,
    flag_name, flag_percentage, flag_version, pointsman_version, features_version, rules_version, ml_version,
    total_ms, features_ms, model_ms, unit, features, requested_at
FROM ml_learning.decisions JOIN (
    SELECT topic_id, partition, request_offset, revision, decision_id, input AS input_bytes
    FROM ml_learning.decision_contents
) AS c USING (topic_id, partition, request_offset, revision, decision_id)
"""


def _of_row(row: tuple[Any, ...]) -> Decided:
    id_, topic, partition, offset, status, created, agent, content_hash, content = row[:9]
    *rest, unit, features, requested = row[9:]
    return Decided(
        id=id_,
        place=(topic, partition, offset),
        status=status,
        created_us=_micros(created) or 0,
        digest=_digest([*rest, unit, features, json.loads(bytes(content)), _micros(requested)]),
        arm=row[11],
        agent=agent,
        by_ml=row[10] == "ml",
        fallback=row[17],
        content_hash=content_hash,
        total_ms=row[-6],
    )


def _tables(dsn: str, found: Evidence) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        with connection.cursor("rows") as cursor:  # of the server: not all in memory twice
            cursor.itersize = 5_000
            cursor.execute(ROWS)
            found.rows = [_of_row(row) for row in cursor]

        def each(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query).fetchall()

        for topic, partition, offset, reason in each(
            "SELECT topic, partition, request_offset, reason FROM ml_learning.dead_letters"
            " JOIN ml_learning.kafka_topics AS t ON t.id = topic_id"
        ):
            found.letter_rows.append(Letter((topic, partition, offset), reason))
        for agent, minute, arm, *counts in each(
            "SELECT agent_name, minute, arm, decisions, by_ml, fallbacks FROM ml_learning.decision_minutes"
        ):
            found.minutes[agent, minute_of(_micros(minute) or 0), arm] = (counts[0], counts[1], counts[2])
        for decision_id, event_id, label in each(
            "SELECT decision_id, event_id, value_text FROM ml_learning.decision_feedback WHERE kind = 'label'"
        ):
            found.feedback[decision_id, event_id, label] += 1
        for decision_id, label in each("SELECT decision_id, label FROM ml_learning.labelled_decisions"):
            found.labels[decision_id, label] += 1
        columns = ["requests", "outcomes", "pending", "dead_letters", "duplicates", "retrying"]
        sums = ", ".join(f"sum({column})::bigint" for column in columns)
        for topic, partition, *counts in each(
            f"SELECT topic, partition, {sums} FROM ml_learning.lane_ledger"
            " JOIN ml_learning.kafka_topics AS t ON t.id = topic_id GROUP BY topic, partition"
        ):
            found.ledger[topic, partition] = Counter(dict(zip(columns, counts, strict=True)))
        found.shadows = each("SELECT count(*) FROM ml_learning.decision_shadows")[0][0]


async def _own_checks(dsn: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("SET TIME ZONE 'UTC'")
        found = [*await ledger_check(connection, grace_s=0.0), *await aggregates_check(connection)]
    return [str(each) for each in found]


def minute_of(micros: int) -> str:
    """A minute's name."""
    return datetime.fromtimestamp(micros // 60_000_000 * 60, UTC).strftime("%Y-%m-%d %H:%M")


def _micros(moment: str | datetime | None) -> int | None:
    if moment is None:
        return None
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return round((moment - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000) + EPOCH_US


EPOCH_US: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def _digest(values: list[Any]) -> str:
    text = json.dumps(_plain(values), sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    """Numbers as floats: JSON in a table says 1 where the message says 1.0."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
