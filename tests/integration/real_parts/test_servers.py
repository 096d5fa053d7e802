"""The real parts themselves: what the fixtures promise to every other test."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiokafka
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support import pipeline
from tests.support.kafka import Kafka, KafkaServer, console_consumer, console_producer
from tests.support.pipeline import consumer
from tests.support.postgres import PostgresServer, fresh_database
from tests.support.sockets import listening
from tests.support.timescale import TimescaleServer


def test_a_java_client_reads_what_a_java_client_wrote(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}lines", partitions=1)
    console_producer(kafka.bootstrap, topic, ["a\tone", "b\ttwo"], compression="zstd")
    assert console_consumer(kafka.bootstrap, topic, count=2, properties=["print.key=true"]) == [
        "a\tone",
        "b\ttwo",
    ]


async def test_a_transaction_commits_on_the_real_broker(kafka: Kafka, topic_prefix: str) -> None:
    topic = kafka.create_topic(f"{topic_prefix}transaction", partitions=1)
    async with (
        aiokafka.AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap, transactional_id=f"{topic_prefix}writer"
        ) as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(topic, b"kept")
    assert console_consumer(kafka.bootstrap, topic, count=1) == ["kept"]


def test_the_readers_of_tests_take_no_silence_for_the_end(
    own_kafka: KafkaServer, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = own_kafka.create_topic(f"{topic_prefix}lines", partitions=2)
    console_producer(own_kafka.bootstrap, topic, [f"{n}\tline" for n in range(20)])

    @contextlib.contextmanager
    def frozen_first(*args: Any, **options: Any) -> Iterator[Any]:
        with consumer(*args, **options) as reader:
            os.kill(own_kafka.pid, signal.SIGSTOP)
            threading.Timer(2, os.kill, (own_kafka.pid, signal.SIGCONT)).start()
            yield reader

    monkeypatch.setattr(pipeline, "consumer", frozen_first)
    assert len(pipeline.to_end(own_kafka.bootstrap, topic)) == 20


def test_a_killed_broker_comes_back_with_its_data_on_the_same_port(
    own_kafka: KafkaServer, topic_prefix: str
) -> None:
    topic = own_kafka.create_topic(f"{topic_prefix}kept", partitions=1)
    console_producer(own_kafka.bootstrap, topic, ["k\tv"])
    before = own_kafka.pid
    own_kafka.kill()
    assert not Path(f"/proc/{before}").exists()
    own_kafka.start()
    assert console_consumer(own_kafka.bootstrap, topic, count=1) == ["v"]


def test_each_test_gets_an_empty_database(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE only_here (n int)")
        count = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert count == (1,)


def test_a_database_is_dropped_with_a_connection_still_open(postgres: str) -> None:
    with fresh_database(postgres) as dsn:
        connection = psycopg.connect(dsn)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_the_servers_run_under_an_unprivileged_user(postgres: str) -> None:
    if os.environ.get("POINTSMAN_TEST_DSN"):
        pytest.skip("POINTSMAN_TEST_DSN names a server that runs already")
    with psycopg.connect(postgres) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        assert Path(f"/proc/{row[0]}").stat().st_uid != 0


def test_a_stopped_server_leaves_nothing_behind() -> None:
    server = PostgresServer().start()
    pid, folder = server.pid, Path(str(conninfo_to_dict(server.dsn)["host"]))
    server.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


def test_timescaledb_is_its_apache_edition_under_a_user_of_its_own_on_loopback_alone(timescale: str) -> None:
    with fresh_database(timescale) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION timescaledb")
        assert connection.execute("SHOW timescaledb.license").fetchone() == ("apache",)
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        session = Path(f"/proc/{row[0]}")
        server = int((session / "stat").read_text().rsplit(")", 1)[1].split()[1])
        assert session.stat().st_uid != 0
    assert listening(server) == [f"127.0.0.1:{conninfo_to_dict(timescale)['port']}"]


@pytest.mark.usefixtures("timescale")
def test_a_stopped_timescaledb_leaves_nothing_behind() -> None:
    server = TimescaleServer().start()
    pid, folder = server.pid, server.folder
    assert folder.exists()
    server.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()
