"""What every test finds: a clean environment, real servers when it asks for them, and an account of skips."""

import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from pointsman.infra.dev.real_parts import MissingPartError
from pointsman.streams.embedded.process import EmbeddedServerError
from tests.support.kafka import Kafka, KafkaServer, RunningKafka
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.timescale import TimescaleServer

TEST_SETTINGS = "POINTSMAN_TEST_"
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

# No test asserts how long something takes. In CI a red run must be the change's doing, so the examples are fixed there.
settings.register_profile("pointsman", deadline=None, derandomize=IN_CI, print_blob=True)
settings.load_profile("pointsman")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches a test, but for those that are meant for tests."""
    for name in list(os.environ):
        if name.startswith("POINTSMAN_") and not name.startswith(TEST_SETTINGS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """The session's Kafka, shared by all tests: one that stops its broker takes `own_kafka`."""
    bootstrap = os.environ.get("POINTSMAN_TEST_KAFKA")
    if bootstrap:
        yield RunningKafka(bootstrap)
        return
    with _kafka_server() as server:
        yield server


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """A broker for one test alone, to be stopped, killed and started again as the test likes."""
    with _kafka_server() as server:
        yield server


def _kafka_server() -> KafkaServer:
    try:
        return KafkaServer()
    except MissingPartError as reason:
        lack(str(reason))


@pytest.fixture(scope="session")
def plain_postgres() -> Iterator[str]:
    """The connection string of the session's PostgreSQL, with the right to create data bases."""
    dsn = os.environ.get("POINTSMAN_TEST_DSN")
    if dsn:
        yield dsn
        return
    try:
        server = PostgresServer().start()
    except EmbeddedServerError as reason:
        lack(str(reason))
    yield server.dsn
    server.stop()


@pytest.fixture(scope="session")
def postgres(plain_postgres: str) -> str:
    """The same, where a suite does not say otherwise."""
    return plain_postgres


@pytest.fixture(scope="session")
def timescale() -> Iterator[str]:
    """The connection string of the session's TimescaleDB, Apache edition; what needs it is skipped without."""
    try:
        server = TimescaleServer().start()
    except MissingPartError as reason:
        pytest.skip(str(reason))  # also in CI: not every machine may run a chroot, and the last lines say so
    yield server.dsn
    server.stop()


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The connection string of an empty data base for one test, dropped afterwards."""
    with fresh_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter, as a server that runs under another user must.

    pytest's own `tmp_path` is below a folder for the person alone, and each new run closes that again.
    """
    folder = Path(tempfile.mkdtemp(prefix="pointsman-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def topic_prefix() -> str:
    """The beginning of topic, group and transaction names for one test, so that tests can share a broker."""
    return f"t{uuid.uuid4().hex[:12]}-"


def lack(reason: str) -> NoReturn:
    """Skip the test for want of a real part; under CI=true fail it, for nothing may be left out there."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None, None, None]:
    """Say at the very end, after pytest's own summary, how many tests were skipped, and why."""
    yield
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reasons[_skip_reason(report)] += 1
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped: {count} because {reason}", yellow=True)


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The text alone: a skip's report is (file, line, 'Skipped: text')."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
