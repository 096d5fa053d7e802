"""The broker's side of a run: its topics, its messages, and whether every one of them was answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.schemas.codec import Decoder
from pointsman.schemas.outcome import Outcome
from pointsman.schemas.request import DecisionRequest
from pointsman.streams import topics
from pointsman.streams.flags import FlagWriter
from pointsman.streams.settings import load
from pointsman.streams.topics import Names
from tests.support.kafka import KafkaServer
from tests.support.pipeline import each_to_end

Pair = tuple[bytes, bytes]

BROKER: Final = {
    "log.segment.delete.delay.ms": "1000"
}  # topics of past runs give their disk back at once, not after a minute
SAMPLE: Final = 200
"""Outcomes of a run whose content is checked, spread evenly; decoding all would take longer than the run."""
QUIET: Final = 4
"""Of librdkafka's log: warnings, which its good-bye is not."""
READ_S: Final = 60.0
"""Silence of a broker for so long is no slowness."""


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """A broker of our own, or the one that POINTSMAN_TEST_KAFKA names: its address."""
    given = os.environ.get("POINTSMAN_TEST_KAFKA")
    if given:
        yield given
        return
    with KafkaServer(settings=BROKER) as own:
        yield own.bootstrap


def prepare(servers: str, prefix: str, *, partitions: int, percent: float) -> None:
    """Topics below a prefix, and the flag."""
    settings = load({"topic_prefix": prefix, "kafka": servers, "partitions": partitions}, {}).settings

    # a topic that was just made answers "not yet", which is tried again and no error
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    async def create() -> None:
        admin = await topics.connect(servers)
        await topics.create(admin, settings)
        await topics.appear(admin, settings)
        await admin.close()
        writer = FlagWriter(servers, Names(prefix).flags, group=prefix)
        await writer.set(AGENT.flag, percent, by="bench")

    asyncio.run(create())


def fill(servers: str, topic: str, messages: Sequence[Pair]) -> None:
    """All messages, with the partitioner that Java and aiokafka clients have."""
    failed: list[Any] = []
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 20,
            "log_level": QUIET,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": len(messages) + 1,
            "on_delivery": lambda error, _message: failed.append(error) if error else None,
        }
    )
    for key, value in messages:
        producer.produce(topic, value, key)
        producer.poll(0)
    if producer.flush(READ_S) or failed:
        raise KafkaException(*failed[:1])


def remove(servers: str, prefix: str) -> None:
    """The topics of a run; a long measurement would fill the disk."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": QUIET})
    ours = [name for name in admin.list_topics(timeout=READ_S).topics if name.startswith(prefix)]
    for each in admin.delete_topics(ours).values():
        each.result(READ_S)


@dataclass(frozen=True)
class Answers:
    """What stood on the outcome topic after a run."""

    missing: int
    doubled: int
    strange: int
    """Keys that nobody asked for."""
    wrong: int
    """Of those looked at, values that are not what was to come of their request."""
    fell_back: float = 0.0
    """Share of those looked at for which the model was too late or away: less work than was to be measured."""

    def fault(self, *, exactly_once: bool) -> str | None:
        """Why the run does not count, or None. At least once may double, and nothing else."""
        found = {"missing": self.missing, "strange": self.strange, "wrong": self.wrong}
        if exactly_once:
            found["doubled"] = self.doubled
        said = [f"{count} {what}" for what, count in found.items() if count]
        return f"{', '.join(said)} outcomes" if said else None


def judge(messages: Sequence[Pair], outcomes: Sequence[Pair], *, decides: bool) -> Answers:
    """Compare outcomes with requests: every key once, and in a sample the content."""
    asked = dict(messages)
    seen = Counter(key for key, _ in outcomes)
    sample = outcomes[:: max(1, len(outcomes) // SAMPLE)]
    right = _is_decided if decides else _is_copy
    fell_back = sum(b'"fallback_reason":null' not in value for _, value in sample) if decides else 0
    return Answers(
        missing=len(asked.keys() - seen.keys()),
        doubled=sum(count - 1 for count in seen.values()),
        strange=len(seen.keys() - asked.keys()),
        wrong=sum(not right(asked[key], value) for key, value in sample if key in asked),
        fell_back=fell_back / max(1, len(sample)),
    )


def _is_copy(request: bytes, outcome: bytes) -> bool:
    return request == outcome


_request, _input = Decoder(DecisionRequest).decode, Decoder(AGENT.input_type, "input").decode
_outcome = msgspec.json.Decoder(Outcome).decode


def _is_decided(value: bytes, answer: bytes) -> bool:
    """Whether the rules' answer in it is the one that they give, on the same input."""
    request = _request(value)
    try:
        outcome = _outcome(answer)
    except msgspec.DecodeError:
        return False
    (expected,) = AGENT.rules.decide(AGENT.rows([_input(request.input)]))
    same_input = bytes(outcome.input) == bytes(request.input)
    return outcome.decision_id == request.id and same_input and outcome.answers.rules == expected


def read_committed(servers: str, topic: str) -> list[Pair]:
    """Key and value of all that a `read_committed` reader sees, to the end of every partition."""
    return [(each.key(), each.value()) for each in each_to_end(servers, topic)]
