"""Ways to write the same rows on one server: plain binary COPY, and the sink's store.

``plain`` is what the driver offers: ``COPY … (FORMAT binary)`` with ``write_row`` into tables of the same columns,
with no index, guard, aggregate or offset. ``packed`` is the hardest comparison: bytes that were packed before,
into the same bare tables. ``store`` is `AuditStore.write` of decoded outcomes, ``bytes`` with their decoding.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection

from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.outcome import Answer, Answers, FlagState, Outcome, Place, Timings, Versions
from pointsman.streams.store import AuditStore, SinkBatch
from pointsman.streams.store.copyrow import HEADER, TRAILER
from pointsman.streams.store.migrate import migrate
from pointsman.streams.store.queries import load
from pointsman.streams.store.rows import Packer

TOPIC = "decision-requests"
TOPIC_IDS = {TOPIC: 1}
SQL = load("audit.sql")
DECODER = Decoder(Outcome)
Work = Callable[[int, int, list[bytes]], Awaitable[None]]
"""Writes one batch of one writer: writer, start, encoded outcomes."""


def outcome(writer: int, offset: int, drawn: random.Random) -> Outcome:
    """An outcome of the size that documentation-keeper's have: about 1.7 kB as JSON."""
    score = round(drawn.random(), 6)
    files = [{"path": f"services/part{i}/module{drawn.randrange(999)}.py", "added": i, "removed": 3, "status": "M"}
             for i in range(7)]  # fmt: skip
    features = {f"feature_{i}": round(drawn.random() * 100, 4) for i in range(20)}
    candidate = drawn.random() < 0.2
    return Outcome(
        decision_id=f"{drawn.getrandbits(160):040x}", agent="documentation-keeper", unit=f"repo-{drawn.randrange(999)}",
        status="final", revision=1, success=True, source="ml" if candidate else "deterministic",
        arm="candidate" if candidate else "control", prediction="update" if score > 0.5 else "none",
        confidence=max(score, 1 - score), reason="public interface changed; no documentation touched", action="act",
        needs_review=False, fallback_reason=None,
        answers=Answers(
            rules=Answer(decider="rules@3", prediction="update", score=0.7, confidence=0.7,
                         reason="public interface changed; no documentation touched"),
            ml=Answer(decider="ml@2026.11.1", prediction="none", score=score, confidence=max(score, 1 - score)),
        ),
        flag=FlagState(name="ml-agent-rollout", percentage=20.0, version=4),
        versions=Versions(pointsman="0.1.0", features="1", rules="3", ml="2026.11.1"),
        features=msgspec.Raw(msgspec.json.encode(features)),
        input=msgspec.Raw(msgspec.json.encode({"subject": "services: add a module", "files": files})),
        requested_at=datetime(2026, 1, 1, tzinfo=UTC), decided_at=datetime.now(UTC) + timedelta(milliseconds=offset / 10),
        timings=Timings(total_ms=drawn.lognormvariate(2.5, 0.6), features_ms=0.01, model_ms=0.4),
        place=Place(topic=TOPIC, partition=writer, offset=offset), content_hash=f"{drawn.getrandbits(64):016x}",
    )  # fmt: skip


def bare(query: str) -> bytes:
    """A COPY query of the store, for the bare copy of its table."""
    return SQL[query].replace(b"ml_learning.agent_decisions", b"bare_decisions").replace(
        b"ml_learning.decision_contents", b"bare_contents"
    )  # fmt: skip


class Ways:
    """The plain ways to write, on one database."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connections: list[AsyncConnection[Any]] = []
        self.types: dict[str, list[int]] = {}
        self.prepared: dict[tuple[int, int], tuple[Any, Any]] = {}

    async def start(self, writers: int) -> None:
        await migrate(self.dsn)
        for _ in range(writers):
            self.connections.append(await AsyncConnection.connect(self.dsn))
        first = self.connections[0]
        for table, copy in (("agent_decisions", "bare_decisions"), ("decision_contents", "bare_contents")):
            await first.execute(f"CREATE TABLE {copy} (LIKE ml_learning.{table} INCLUDING DEFAULTS)".encode())
        await first.commit()

    async def stop(self) -> None:
        for connection in self.connections:
            await connection.close()

    async def prepare(self, batches: dict[tuple[int, int], list[bytes]]) -> None:
        """The same rows for the two plain ways: tuples read back from bare tables, and packed bytes."""
        first = self.connections[0]
        packer = Packer()
        for key, values in batches.items():
            packed = packer.decisions([(DECODER.decode(value), None) for value in values], TOPIC_IDS)
            streams = tuple(b"".join((HEADER, *rows, TRAILER)) for rows in packed)
            tuples = []
            for query, stream in zip(("copy_decisions", "copy_contents"), streams, strict=True):
                tuples.append(await self._as_tuples(first, query, stream))
            self.prepared[key] = (tuples, streams)

    async def _as_tuples(self, connection: AsyncConnection[Any], query: str, stream: bytes) -> list[Any]:
        text = bare(query).decode()
        columns = text[text.index("(") + 1 : text.index(") FROM")]
        table = text.split()[1]
        async with connection.cursor(binary=True) as cursor:
            async with cursor.copy(bare(query)) as copy:
                await copy.write(stream)
            await cursor.execute(f"SELECT {columns} FROM {table}".encode())
            self.types[query] = [column.type_code for column in cursor.description or ()]
            rows = await cursor.fetchall()
        await connection.rollback()
        jsonb = 3802
        spots = [i for i, oid in enumerate(self.types[query]) if oid == jsonb]
        return [
            tuple(psycopg.types.json.Jsonb(v) if i in spots else v for i, v in enumerate(row)) for row in rows
        ]

    async def plain(self, writer: int, start: int, _: list[bytes]) -> None:
        connection = self.connections[writer]
        for query, rows in zip(
            ("copy_decisions", "copy_contents"), self.prepared[writer, start][0], strict=True
        ):
            async with connection.cursor().copy(bare(query)) as copy:
                copy.set_types(self.types[query])
                for row in rows:
                    await copy.write_row(row)
        await connection.commit()

    async def packed(self, writer: int, start: int, _: list[bytes]) -> None:
        connection = self.connections[writer]
        for query, stream in zip(
            ("copy_decisions", "copy_contents"), self.prepared[writer, start][1], strict=True
        ):
            async with connection.cursor().copy(bare(query)) as copy:
                await copy.write(stream)
        await connection.commit()


def store_work(store: AuditStore, lane: str, decoded: dict[tuple[int, int], list[Outcome]] | None) -> Work:
    """`AuditStore.write`, of decoded outcomes or of bytes."""

    async def work(writer: int, start: int, values: list[bytes]) -> None:
        outcomes = decoded[writer, start] if decoded else [DECODER.decode(value) for value in values]
        await store.write(
            SinkBatch(lane=lane, cluster=lane, topic="decision-outcomes", partition=writer,
                      start=start, end=start + len(values), outcomes=outcomes)
        )  # fmt: skip

    return work


async def measure(
    work: Work, batches: dict[tuple[int, int], list[bytes]], writers: int
) -> tuple[float, float]:
    """Rows a second, and CPU microseconds a row of this process."""

    async def one(writer: int) -> None:
        for (owner, start), values in batches.items():
            if owner == writer:
                await work(writer, start, values)

    rows = sum(len(values) for (owner, _), values in batches.items() if owner < writers)
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one(writer) for writer in range(writers)))
    return rows / (time.perf_counter() - wall), (time.process_time() - cpu) / rows * 1e6


async def rounds(
    dsn: str, writers: int, rows: int, batch: int, count: int
) -> list[dict[str, tuple[float, float]]]:
    """Each round: way to write, to rows a second and CPU microseconds a row. ``dsn``: an empty database."""
    drawn = random.Random(1)
    batches = {
        (writer, start): [encode(outcome(writer, start + i, drawn)) for i in range(batch)]
        for start in range(0, rows // writers, batch)
        for writer in range(writers)
    }
    decoded = {key: [DECODER.decode(value) for value in values] for key, values in batches.items()}
    ways = Ways(dsn)
    await ways.start(writers)
    await ways.prepare(batches)
    found = []
    async with AuditStore(dsn, connections_max=writers) as store:
        for number in range(count):
            works: dict[str, Work] = {
                "plain": ways.plain,
                "packed": ways.packed,
                "store": store_work(store, f"store{number}", decoded),
                "bytes": store_work(store, f"bytes{number}", None),
            }
            found.append({name: await measure(work, batches, writers) for name, work in works.items()})
    await ways.stop()
    return found
