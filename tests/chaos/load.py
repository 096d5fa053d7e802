"""The load: a producer that is not ours sends requests, feedback and nonsense, and notes what the broker took."""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from confluent_kafka import KafkaError, Producer
from xxhash import xxh3_64_hexdigest

from pointsman.streams.topics import Names
from tests.chaos.plan import Plan

SEQ: Final = "chaos-seq"
"""Header: the number of a record, by which it is known wherever it turns up."""
TICK_S: Final = 0.05
KEEPER: Final = "documentation-keeper"
DUPLICATES, CONFLICTS, POISON, TICKETS = 0.03, 0.02, 0.02, 0.1
LABELLED, TWICE, SPOILT = 0.15, 0.2, 0.03
"""Shares: of requests, and of feedback."""
UNITS: Final = 200
QUEUE_MAX: Final = 2_000_000
"""Records that wait in the producer while the broker is away: all of any plan."""
STUCK_S: Final = 60.0
"""A producer whose records the broker has not acknowledged for so long, one fault at most and the broker's start after it,
is given up: librdkafka was seen to send nothing more after its broker had come back."""
GIVE_UP_S: Final = 5.0
"""So long it may take to say what it gives up."""


@dataclass(slots=True)
class Sent:
    """One record that was handed to the producer."""

    seq: int
    topic: str
    id: str
    """Of the request or the feedback event; empty where the record is nonsense."""
    digest: str
    """Of its value."""
    reason: str = ""
    """Why it must become a dead letter by itself, whatever came before it; empty where it is valid."""
    decision_id: str = ""
    """Feedback: of its decision."""
    label: str = ""
    partition: int = -1
    offset: int = -1
    """Where the broker says that it put it; -1: it has not said so."""

    @property
    def acknowledged(self) -> bool:
        """Whether it must be there."""
        return self.offset >= 0


@dataclass
class Truth:
    """All that was sent, by number."""

    sent: list[Sent] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """What the producer said of records that may or may not be there."""
    fatal: str = ""
    """Why the producer sends no more, if so."""
    replaced: int = 0
    """How often the producer was given up for another."""


def digest(value: bytes | None) -> str:
    """A value's fingerprint; of none another than of an empty one."""
    return "null" if value is None else xxh3_64_hexdigest(value)


class Load(threading.Thread):
    """Sends at a steady rate until stopped. What it sends follows from the plan's seed."""

    def __init__(self, bootstrap: str, names: Names, plan: Plan) -> None:
        super().__init__(name="load", daemon=True)
        self.truth = Truth()
        self.rate = float(plan.rate)
        self._names, self._plan = names, plan
        self._chance = random.Random(plan.seed)
        self._halt = threading.Event()
        self._orders: list[str] = []
        self._number = itertools.count()
        self._answerable: list[tuple[str, bytes, bytes]] = []
        self._failure: BaseException | None = None
        self._settings = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,  # with acks=all: in order, once each, through any restart
            "message.timeout.ms": 0,  # for ever
            "linger.ms": 5,
            "compression.type": plan.compression,
            "queue.buffering.max.messages": QUEUE_MAX,
            "queue.buffering.max.kbytes": 2_000_000,
            "reconnect.backoff.max.ms": 1_000,
            "topic.metadata.refresh.interval.ms": 5_000,  # a leader that it has missed is not missed for minutes
            "log_level": 0,  # that the broker is away is no news here
            "error_cb": self._say,
        }
        self._producer = Producer(self._settings)
        self._heard = time.monotonic()
        """When the broker last acknowledged something, or nothing waited."""

    def _say(self, error: KafkaError) -> None:
        if error.fatal():
            self.truth.fatal = str(error)

    def poison(self, what: str) -> None:
        """Send one of each kind of nonsense to each partition soon: ``requests`` or ``feedback``."""
        self._orders.append(what)

    def finish(self, timeout_s: float) -> int:
        """Stop, wait for the broker to have taken all; how many it has not."""
        self._halt.set()
        self.join(30)
        if self.is_alive():
            # Of two that tend the producer the second might give up the first one's successor.
            msg = "the load does not stop"
            raise RuntimeError(msg)
        if self._failure is not None:
            raise self._failure
        until = time.monotonic() + timeout_s
        while len(self._producer) and time.monotonic() < until:
            self._tend(TICK_S)
        return len(self._producer)

    def _tend(self, seconds: float = 0.0) -> None:
        """Hear what the broker has taken; a producer that it takes nothing of any more has a successor.

        What the first one still held may or may not be there.
        """
        self._producer.poll(seconds)
        if not len(self._producer):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > STUCK_S:
            stuck, self._producer = self._producer, Producer(self._settings)
            stuck.purge()
            stuck.flush(GIVE_UP_S)
            self.truth.replaced += 1
            self._heard = time.monotonic()

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._failure = error

    def _run(self) -> None:
        began, done = time.monotonic(), 0.0
        while not self._halt.wait(TICK_S):
            now = time.monotonic()
            due, began = (now - began) * self.rate + done, now
            for _ in range(int(due)):
                self._one()
            done = due - int(due)
            while self._orders:
                self._spoil(self._orders.pop())
            self._tend()

    # -- what is sent ----------------------------------------------------------------------------

    def _one(self) -> None:
        chance = self._chance
        drawn = chance.random()
        if self._answerable and drawn < DUPLICATES + CONFLICTS:
            id_, key, value = chance.choice(self._answerable)
            if drawn < CONFLICTS:
                body = json.loads(value)
                body["requested_at"] = (
                    f"2026-01-01T00:00:{chance.randrange(60):02}.{chance.randrange(10**6):06}Z"
                )
                value = json.dumps(body).encode()
            self._send(self._names.requests, key, value, id=id_)
            return
        if drawn < DUPLICATES + CONFLICTS + POISON:
            kind = chance.choice(sorted(NONSENSE))
            self._nonsense(kind, None)
            return
        id_, key, value, agent = self._request()
        self._send(self._names.requests, key, value, id=id_)
        if len(self._answerable) < 5_000:
            self._answerable.append((id_, key, value))
        else:
            self._answerable[chance.randrange(5_000)] = (id_, key, value)
        if chance.random() < LABELLED:
            self._feedback(id_, key, agent)

    def _request(self) -> tuple[str, bytes, bytes, str]:
        chance, number = self._chance, next(self._number)
        id_ = f"c{self._plan.seed}-{number}"
        body: dict[str, Any] = {"id": id_, "agent": KEEPER, "requested_at": datetime.now(UTC).isoformat()}
        if chance.random() < TICKETS:
            body["agent"] = "ticket-urgency"
            body["input"] = {"subject": f"Ticket {number} is down", "open_tickets": number % 9}
        else:
            files = [
                {"path": f"src/part{chance.randrange(99)}.py", "added": chance.randrange(300), "removed": 3}
                for _ in range(chance.randrange(1, 5))
            ]
            body["input"] = {"repository": "octo/engine", "subject": f"Change {number}", "files": files}
        if chance.random() < 0.5:
            body["unit"] = f"unit-{chance.randrange(UNITS)}"
        return id_, str(body.get("unit") or id_).encode(), json.dumps(body).encode(), body["agent"]

    def _feedback(self, decision_id: str, key: bytes, agent: str) -> None:
        chance = self._chance
        event: dict[str, Any] = {
            "id": f"f-{decision_id}",
            "decision_id": decision_id,
            "agent": agent,
            "observed_at": datetime.now(UTC).isoformat(),
            "label": chance.choice(("none", "api")),
        }
        if key != decision_id.encode():
            event["unit"] = key.decode()
        reason = ""
        if chance.random() < SPOILT:
            event["id"] += "-spoilt"
            event["rating"] = 17
            reason = "wrong_type"
        value = json.dumps(event).encode()
        for _ in range(2 if chance.random() < TWICE else 1):
            self._send(
                *(self._names.feedback, key, value),
                id=event["id"],
                reason=reason,
                decision_id=decision_id,
                label=event["label"],
            )

    def _spoil(self, what: str) -> None:
        for partition in range(self._plan.partitions):
            for kind in sorted(NONSENSE):
                self._nonsense(kind, partition, self._names.feedback if what == "feedback" else None)

    def _nonsense(self, kind: str, partition: int | None, topic: str | None = None) -> None:
        if topic is not None and kind not in FEEDBACK_TOO:
            return
        reason, make = NONSENSE[kind]
        key, value = make(f"x{self._plan.seed}-{next(self._number)}")
        self._send(topic or self._names.requests, key, value, reason=reason, partition=partition)

    def _send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        id: str = "",  # noqa: A002 - as the contract calls it
        reason: str = "",
        decision_id: str = "",
        label: str = "",
        partition: int | None = None,
    ) -> None:
        sent = Sent(len(self.truth.sent), topic, id, digest(value), reason, decision_id, label)
        self.truth.sent.append(sent)

        def told(error: Any, message: Any) -> None:
            if error is None:
                sent.partition, sent.offset = message.partition(), message.offset()
                self._heard = time.monotonic()
            else:
                self.truth.errors.append(f"{sent.seq}: {error}")

        where = {} if partition is None else {"partition": partition}
        headers = [(SEQ, str(sent.seq).encode())]
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=told, **where)
            except BufferError:
                self._tend(0.1)
            else:
                return


def _body(id_: str, **changes: Any) -> tuple[bytes, bytes]:
    body = {"id": id_, "agent": KEEPER, "input": {"repository": "r", "subject": "s", "files": []}} | changes
    return id_.encode(), json.dumps({k: v for k, v in body.items() if v is not None}).encode()


NONSENSE: Final[dict[str, tuple[str, Callable[[str], tuple[bytes | None, bytes | None]]]]] = {
    "null": ("empty_value", lambda id_: (id_.encode(), None)),
    "empty": ("empty_value", lambda id_: (id_.encode(), b"")),
    "text": ("not_json", lambda id_: (id_.encode(), b"not JSON " + id_.encode())),
    "half": ("not_json", lambda id_: (id_.encode(), _body(id_)[1][:-7])),
    "latin": ("not_json", lambda id_: (id_.encode(), _body(id_, extra="?")[1].replace(b"?", b"\xe9"))),
    "deep": ("too_deep", lambda id_: (id_.encode(), b"[" * 5_000 + b"]" * 5_000)),
    "list": ("wrong_type", lambda _: (b"", b"[1, 2]")),
    "number": ("wrong_type", lambda id_: (id_.encode(), _body(id_, id=7)[1])),
    "agent": ("unknown_agent", lambda id_: _body(id_, agent="nobody")),
    "key": ("bad_key", lambda id_: (b"another", _body(id_)[1])),
    "no_key": ("bad_key", lambda id_: (None, _body(id_)[1])),
    "input": ("wrong_type", lambda id_: _body(id_, input={"repository": 1, "subject": "s", "files": []})),
    "missing": ("missing_field", lambda id_: _body(id_, agent=None)),
    "large": ("too_large", lambda id_: _body(id_, extra="x" * 300_000)),
}
"""Kind to the reason that its dead letter must have, and what makes key and value of it."""
FEEDBACK_TOO: Final = frozenset({"null", "empty", "text", "half", "list"})
"""What breaks the contract of feedback for the same reason."""
