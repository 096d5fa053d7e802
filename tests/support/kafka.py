"""Real Kafka for tests: one broker from the jars (KRaft, loopback, own folder), or one that runs already."""

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from pointsman.infra.dev import real_parts
from pointsman.streams.embedded.process import Ending, SupervisedProcess

START_TIMEOUT_S = 90.0  # three seconds on an idle machine; CI shares its cores
HEAP = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
)  # one node, few partitions, two cores shared with the tests
LOG4J = real_parts.HERE / "log4j2.properties"

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    # one node cannot replicate
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # few, so that a start and a restart load them quickly
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "num.partitions": "4",
    # waits that make sense for a fleet, not for one test
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # after a SIGKILL the controller lets the node in again once its old session has ended: nine seconds by
    # default
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # the default buffer is a quarter of the heap given above
    "log.cleaner.dedupe.buffer.size": "16777216",
}


class Kafka(Protocol):
    """What every test may ask of a broker, whoever runs it."""

    @property
    def bootstrap(self) -> str:
        """`host:port`, as clients want it."""

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        """Create a topic, wait until it has leaders, return its name."""


class RunningKafka:
    """A broker that was there before (POINTSMAN_TEST_KAFKA); nobody here starts or stops it."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        """See Kafka.create_topic."""
        return create_topic(self.bootstrap, name, partitions, config)


class KafkaServer:
    """One Kafka broker of our own: `start`, `stop`, `kill`, and `start` again on the same port and data.

    `settings` are broker properties over the ones above; `java_options` replace the heap settings.
    """

    def __init__(
        self, *, settings: Mapping[str, str] | None = None, java_options: Sequence[str] = HEAP
    ) -> None:
        # first, since these raise when there is no Kafka or no Java: nothing is left behind then. Kafka is looked
        # for before Java, since its message says what sets up both.
        arguments = java_arguments()
        self._java = [str(real_parts.java()), *java_options, *arguments]
        self.folder = Path(tempfile.mkdtemp(prefix="pointsman-kafka-"))
        self.port, self.controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.log = self.folder / "broker.log"
        self._process: SupervisedProcess | None = None
        self._configuration = self.folder / "server.properties"
        self._configuration.write_text(self._properties(settings or {}))

    def _properties(self, settings: Mapping[str, str]) -> str:
        own = {
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "log.dirs": str(self.folder / "data"),
        }
        return "".join(f"{key}={value}\n" for key, value in (PROPERTIES | own | dict(settings)).items())

    @property
    def pid(self) -> int:
        """The broker's process id. Raises RuntimeError when it does not run."""
        if self._process is None:
            msg = "this broker is not running"
            raise RuntimeError(msg)
        return self._process.pid

    def start(self) -> Self:
        """Start the broker, format its storage the first time, and return when it answers clients."""
        if not (self.folder / "data").exists():
            self._format()
        self._process = SupervisedProcess(
            [*self._java, "kafka.Kafka", self._configuration], log=self.log, ending=Ending(grace_s=20)
        )
        self._process.wait_until(self._answers, timeout_s=START_TIMEOUT_S, what="the Kafka broker")
        return self

    def _format(self) -> None:
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id(), "-c"]
        done = subprocess.run(
            [*self._java, *tool, self._configuration], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            msg = f"StorageTool failed: {done.stdout}{done.stderr}"
            raise RuntimeError(msg)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return has_broker(self.bootstrap)
        return False

    def stop(self) -> None:
        """Shut down in order; data stays for another `start`."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """SIGKILL the broker; data stays for another `start`."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Its process stands still, its connections open."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop in order and start again on the same port and data."""
        self.stop()
        self.start()

    def create_topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        """See Kafka.create_topic."""
        return create_topic(self.bootstrap, name, partitions, config)

    def close(self) -> None:
        """Stop and remove everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def java_arguments() -> list[str]:
    """Class path and log settings that every program in the jars needs."""
    return [f"-Dlog4j2.configurationFile={LOG4J}", "-cp", f"{real_parts.kafka_jars()}/*"]


def cluster_id() -> str:
    """A random id in Kafka's form: 16 bytes in URL-safe base64; a leading dash would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on at this moment, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def has_broker(bootstrap: str) -> bool:
    """Whether a broker answers a metadata request within a second."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def create_topic(bootstrap: str, name: str, partitions: int, config: Mapping[str, str] | None = None) -> str:
    """Create a topic with one replica and return its name once every partition has a leader."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
    admin.create_topics([topic], operation_timeout=30)[name].result(30)
    return name


def console_consumer(
    bootstrap: str, topic: str, *, count: int, timeout_s: float = 30, properties: Sequence[str] = ()
) -> list[str]:
    """What the Java console consumer prints of a topic, `read_committed`, from its beginning.

    At most `count` lines; it gives up after `timeout_s` without a message. `properties` are the console's own, such
    as `print.key=true`.
    """
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"]
    arguments += ["--isolation-level", "read_committed", "--max-messages", str(count)]
    arguments += ["--timeout-ms", str(int(timeout_s * 1000))]
    for each in properties:
        arguments += ["--property", each]
    done = _run_java("org.apache.kafka.tools.consumer.ConsoleConsumer", arguments, timeout_s)
    return done.stdout.splitlines()


def console_producer(
    bootstrap: str, topic: str, lines: Sequence[str], *, compression: str = "none", timeout_s: float = 30
) -> None:
    """Send lines (`key<TAB>value`) with the Java console producer in one of Kafka's compressions."""
    arguments = ["--bootstrap-server", bootstrap, "--topic", topic, f"--compression-codec={compression}"]
    arguments += ["--property", "parse.key=true"]
    _run_java(
        "org.apache.kafka.tools.ConsoleProducer", arguments, timeout_s, "".join(f"{x}\n" for x in lines)
    )


def _run_java(
    program: str, arguments: list[str], timeout_s: float, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [str(real_parts.java()), *HEAP, *java_arguments(), program, *arguments]
    # a JVM's start and the group's first join come on top of the wait for messages
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=timeout_s + 60, check=False
    )
    if done.returncode != 0:
        msg = f"{program} ended with {done.returncode}: {done.stdout}{done.stderr}"
        raise RuntimeError(msg)
    return done
