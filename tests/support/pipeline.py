"""A whole deployment for a test: topics, migrated database, workers as processes; and an account of what came out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from pointsman.streams import topics
from pointsman.streams.flags import FlagWriter
from pointsman.streams.settings import Settings, load
from pointsman.streams.store import migrate
from pointsman.streams.store.check import Difference, ledger_check
from pointsman.streams.topics import Names

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "agents"
WAIT_S = 60.0
"""Far beyond what anything here takes on an idle machine: when it is over, something hangs."""

Record = tuple[bytes | None, bytes | None]


class WorkerProcess:
    """`pointsman worker` as a process of its own, its log in a file."""

    def __init__(
        self, settings: dict[str, str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        base = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
        base |= {f"POINTSMAN_{name.upper()}": value for name, value in settings.items()}
        with log.open("ab") as out:
            self._began = out.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pointsman.streams.cli", "worker"],
                env=base | {"POINTSMAN_LOG": "json"} | dict(environment or {}),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    @property
    def pid(self) -> int:
        """Of the worker itself."""
        return self._process.pid

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def ops(self) -> str | None:
        """Address of its operations port, once it said so."""
        return next((str(line["ops"]) for line in self.lines() if line["event"] == "worker runs"), None)

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged, but for a line that is still being written, or is none of its log's."""
        whole = self.log.read_bytes()[self._began :].split(b"\n")[:-1]
        return [json.loads(line) for line in whole if line.startswith(b'{"') and line.endswith(b"}")]

    def report(self, page: str) -> Any:
        """A page of the operations port, whatever its status; None while there is none."""
        address = self.ops()
        if address is None:
            return None
        try:
            with urllib.request.urlopen(f"{address}/{page}", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError:
            return None

    def wait_ready(self) -> Self:
        """Until it owns partitions and serves them; fails with its log when it ends instead."""

        def ready() -> bool:
            assert self._process.poll() is None, f"the worker ended: {self.tail()}"
            return bool((self.report("ready") or {}).get("ready"))

        wait_for(ready, "the worker to be ready", detail=self.tail)
        return self

    def model_pid(self) -> int:
        """Its model process."""
        for child in psutil.Process(self.pid).children():
            if "pointsman.streams.model.server" in " ".join(child.cmdline()):
                return int(child.pid)
        raise AssertionError("the worker has no model process")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Any signal."""
        self._process.send_signal(number)

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP, then SIGCONT."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def peak_mib(self) -> int:
        """The most memory that the process ever held."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the worker did not stop: {self.tail()}") from None
        return self._process.returncode

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-4000:]


@dataclass
class Pipeline:
    """One test's deployment on shared servers."""

    bootstrap: str
    dsn: str
    prefix: str
    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)

    @functools.cached_property
    def _producer(self) -> Producer:
        # As the Java client and Pointsman's own: librdkafka alone has another default.
        own = {"linger.ms": 5, "partitioner": "murmur2_random"}
        return Producer({"bootstrap.servers": self.bootstrap} | own)

    @property
    def names(self) -> Names:
        """The topics' names."""
        return Names.of(self.settings)

    @property
    def settings(self) -> Settings:
        """As the workers have them."""
        given = {
            "kafka": self.bootstrap,
            "topic_prefix": self.prefix,
            "group": f"{self.prefix}g",
        } | self.options
        return load({}, {f"POINTSMAN_{name.upper()}": value for name, value in given.items()}).settings

    async def prepare(self, *, flag: str = "", percentage: float = 0) -> Self:
        """Topics, tables and, if named, a flag."""
        admin = await topics.connect(self.bootstrap)
        try:
            await topics.create(admin, self.settings)
            await topics.appear(admin, self.settings)
        finally:
            await admin.close()
        if self.dsn:
            await migrate.migrate(self.dsn)
        if flag:
            await self.flag(flag, percentage)
        return self

    async def flag(self, name: str, percentage: float) -> None:
        """Set a flag."""
        writer = FlagWriter(self.bootstrap, self.names.flags, group=self.settings.group)
        await writer.set(name, percentage, by="test")

    def worker(self, lanes: str = "decisions,live", **options: str) -> WorkerProcess:
        """Start a worker; `wait_ready` waits for it."""
        settings = {
            "kafka": self.bootstrap,
            "dsn": self.dsn,
            "topic_prefix": self.prefix,
            "group": f"{self.prefix}g",
            "agents": str(EXAMPLES),
            "lanes": lanes,
            "metrics_port": "0",
            # The least that a broker allows by default: a test need not wait longer for a killed worker's partitions.
            "session_timeout_ms": "6000",
            "data_dir": str(self.folder / "data"),
        }
        log = self.folder / f"worker-{len(self.workers)}.log"
        worker = WorkerProcess(settings | self.options | options, log)
        self.workers.append(worker)
        return worker

    def send(
        self, records: Iterable[Record], topic: str | None = None, *, partition: int | None = None
    ) -> None:
        """Produce records, with librdkafka: a client that is not ours."""
        where = {} if partition is None else {"partition": partition}
        for key, value in records:
            while True:
                try:
                    self._producer.produce(topic or self.names.requests, value, key, **where)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(60) == 0, "the broker took not all records"

    def read(
        self,
        topic: str,
        until: Callable[[list[Any]], bool],
        *,
        timeout_s: float = WAIT_S,
        shown: Callable[[list[Any]], object] = len,
    ) -> list[Any]:
        """Committed records of a topic from its beginning, until the condition holds; then all that is there.

        ``shown``: what a failure says of those that were found.
        """
        with consumer(self.bootstrap, topic) as reader:
            found: list[Any] = []
            deadline = time.monotonic() + timeout_s
            while not until(found):
                assert time.monotonic() < deadline, f"{topic}: {shown(found)} records; {self._tails()}"
                found += good(reader.consume(1000, 0.2))
        return to_end(self.bootstrap, topic)  # what was committed too much lies right behind

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query).fetchall()

    def wait_rows(self, query: str, wanted: object) -> None:
        """Until the query's first value is as wanted."""
        wait_for(
            lambda: self.rows(query)[0][0] == wanted,
            f"{query} = {wanted}",
            detail=lambda: f"{self.rows(query)} {self._tails()}",
        )

    async def ledger_differences(self) -> list[Difference]:
        """What the ledgers say that the rows do not, of all that was written until now."""
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            return await ledger_check(connection, grace_s=0)

    def _tails(self) -> str:
        """Of all workers, and what the last one says of itself."""
        last = self.workers[-1].report("health") if self.workers else None
        return "\n".join([*(worker.tail() for worker in self.workers), f"health: {last}"])

    def close(self) -> None:
        """Stop all workers."""
        for worker in self.workers:
            worker.stop()


@contextlib.contextmanager
def consumer(
    bootstrap: str, topic: str, since: Mapping[int, int] = {}, *, says_ends: bool = False
) -> Iterator[Consumer]:
    """A librdkafka consumer, `read_committed`, on all partitions; from their beginning where ``since`` has no offset.

    ``says_ends``: the end of a partition comes as an event. A consumer that does so counts events in its positions.
    """
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": says_ends,
        }
    )
    try:
        partitions = reader.list_topics(topic, timeout=20).topics[topic].partitions
        reader.assign([TopicPartition(topic, number, since.get(number, 0)) for number in partitions])
        yield reader
    finally:
        reader.close()


def to_end(bootstrap: str, topic: str, since: Mapping[int, int] = {}) -> list[Any]:
    """The records up to the last stable offset of each partition: the broker says where that is, and no silence does."""
    return list(each_to_end(bootstrap, topic, since))


def each_to_end(bootstrap: str, topic: str, since: Mapping[int, int] = {}) -> Iterator[Any]:
    """The same one by one, for more than is good to have in memory at once."""
    deadline = time.monotonic() + WAIT_S
    with consumer(bootstrap, topic, since, says_ends=True) as reader:
        left = {each.partition for each in reader.assignment()}
        while left:
            assert time.monotonic() < deadline, f"{topic}: the end of {sorted(left)} was not reached"
            batch = reader.consume(1000, 0.5)
            yield from good(batch)
            events = ((each.partition(), error) for each in batch if (error := each.error()) is not None)
            left -= {number for number, error in events if error.code() == KafkaError._PARTITION_EOF}


def good(messages: Sequence[Any]) -> list[Any]:
    """Messages without the reader's own events."""
    return [message for message in messages if message.error() is None]


def wait_for(done: Callable[[], bool], what: str, *, detail: Callable[[], str] = lambda: "") -> None:
    """Poll until done; fail with a reason."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s for {what}; {detail()}"
        time.sleep(0.05)


async def async_wait_for(done: Callable[[], bool], what: str) -> None:
    """`wait_for`, for tests with an event loop."""
    await asyncio.to_thread(wait_for, done, what)


@dataclass(frozen=True)
class Account:
    """What became of the requests: empty lists where all is well."""

    lost: list[str]
    doubled: list[str]
    unknown: list[str]

    @property
    def clean(self) -> bool:
        """Exactly one each."""
        return not (self.lost or self.doubled or self.unknown)


def account(wanted: Iterable[str], found: Iterable[str]) -> Account:
    """Compare ids that should have one outcome with the ids of the outcomes."""
    counts, expected = Counter(found), set(wanted)
    return Account(
        lost=sorted(expected - counts.keys()),
        doubled=sorted(name for name, count in counts.items() if count > 1),
        unknown=sorted(counts.keys() - expected),
    )


def request(number: int | str, **changes: Any) -> Record:
    """A request to documentation-keeper; the number makes its id and its content."""
    body = {
        "id": f"r-{number}",
        "agent": "documentation-keeper",
        "input": {
            "repository": "octo/engine",
            "subject": f"Change {number}",
            "files": [{"path": f"src/part{number}.py", "added": 10, "removed": 3}],
        },
    } | changes
    return str(body.get("unit") or body["id"]).encode(), json.dumps(body).encode()
