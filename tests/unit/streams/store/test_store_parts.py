"""The small parts of the store: queries by name, states of migrations, batches, errors."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from pointsman.schemas import dead_letter
from pointsman.schemas.codec import encode
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.outcome import Cause, Place
from pointsman.schemas.retry import HEADER_KEPT, Kept
from pointsman.schemas.summary import Ledger, Summary
from pointsman.streams.store import (
    DeadLetter,
    MigrationError,
    NotMigrated,
    SinkBatch,
    StoreUnavailable,
    WriteResult,
    writes,
)
from pointsman.streams.store.errors import translate
from pointsman.streams.store.migrate import Applied, Migration, compare, migrations
from pointsman.streams.store.queries import load
from tests.support.outcomes import outcome

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "file", ["audit.sql", "check.sql", "edition.sql", "migrate.sql", "pool.sql", "read.sql"]
)
def test_every_query_has_a_name_of_its_own_and_a_text(file: str) -> None:
    queries = load(file)
    assert queries
    assert all(queries.values())


def test_migrations_count_from_one_without_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_gap_in_the_numbers_is_an_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gapped"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_one.sql").write_text("SELECT 1")
    (package / "0003_three.sql").write_text("SELECT 3")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MigrationError, match="without gap"):
        migrations("gapped")


def test_line_endings_of_a_checkout_do_not_change_a_checksum(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("unix", b"SELECT 1\n;\n"), ("dos", b"SELECT 1\r\n;\r\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "0001_one.sql").write_bytes(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert migrations("unix") == migrations("dos")


def test_each_state_of_a_migration_is_told_apart() -> None:
    known = [Migration(number, f"m{number}", "", f"c{number}") for number in (1, 2, 3)]
    applied = {
        1: Applied(1, "m1", "c1", NOW),
        2: Applied(2, "m2", "other", NOW),
        4: Applied(4, "m4", "c4", NOW),
    }
    assert [state.state for state in compare(known, applied)] == ["applied", "changed", "pending", "unknown"]


@pytest.mark.parametrize(("start", "end"), [(-1, 0), (3, 2)])
def test_an_impossible_range_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="start <= end"):
        SinkBatch(lane="l", cluster="c", topic="t", partition=0, start=start, end=end)


def test_trace_ids_must_match_their_outcomes() -> None:
    with pytest.raises(ValueError, match="2 trace ids for 1 outcomes"):
        SinkBatch(
            lane="l",
            cluster="c",
            topic="t",
            partition=0,
            start=0,
            end=1,
            outcomes=[outcome()],
            trace_ids=["a", "b"],
        )


def test_a_dead_letter_is_read_from_its_headers() -> None:
    headers = [
        ("reason", b"wrong_type"), ("field", b"input.files[2]"), ("expected", b"an array"), ("topic", b"t"),
        ("partition", b"3"), ("offset", b"41"), ("attempt", b"2"), ("traceparent", b"\xff"),
    ]  # fmt: skip
    assert DeadLetter.from_headers(headers) == DeadLetter(
        reason="wrong_type",
        field="input.files[2]",
        expected="an array",
        topic="t",
        partition=3,
        offset=41,
        attempt=2,
    )


@pytest.mark.parametrize("lacking", ["topic", "partition", "offset"])
def test_a_dead_letter_without_its_place_is_refused(lacking: str) -> None:
    headers = {"topic": b"t", "partition": b"3", "offset": b"41"}
    del headers[lacking]
    with pytest.raises(InvalidMessage, match=f"header {lacking}"):
        DeadLetter.from_headers(headers.items())


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (psycopg.OperationalError("server closed the connection\nunexpectedly"), StoreUnavailable),
        (psycopg.errors.DiskFull("no space"), StoreUnavailable),
        (psycopg.errors.TooManyConnections("sorry"), StoreUnavailable),
        (psycopg.errors.CannotConnectNow("starting up"), StoreUnavailable),
        (psycopg.errors.ReadOnlySqlTransaction("standby"), StoreUnavailable),
        (psycopg.errors.DeadlockDetected("ring"), StoreUnavailable),
        (psycopg.errors.LockNotAvailable("locked"), StoreUnavailable),
        (psycopg.errors.AdminShutdown("ended"), StoreUnavailable),
        (psycopg.errors.UndefinedTable("no such table"), NotMigrated),
        (psycopg.errors.UndefinedColumn("no such column"), NotMigrated),
        (psycopg.errors.UniqueViolation("twice"), type(None)),
        (psycopg.errors.NotNullViolation("null"), type(None)),
        (psycopg.DataError("no such text"), type(None)),
        (psycopg.ProgrammingError("bug"), type(None)),
    ],
)
def test_what_waiting_can_mend_is_told_from_bugs(error: psycopg.Error, ours: type) -> None:
    translated = translate(error)
    assert type(translated) is ours
    assert "\n" not in str(translated)


def test_a_header_of_the_sender_without_a_value_does_not_make_a_dead_letter_unreadable() -> None:
    place = {
        dead_letter.HEADER_TOPIC: b"decision-requests",
        dead_letter.HEADER_PARTITION: b"3",
        dead_letter.HEADER_OFFSET: b"17",
    }
    headers: Any = [("trace", None), *place.items(), (dead_letter.HEADER_FIELD, None)]
    letter = DeadLetter.from_headers(headers)
    assert (letter.topic, letter.partition, letter.offset, letter.field) == ("decision-requests", 3, 17, "")
    with pytest.raises(InvalidMessage, match="header topic"):
        DeadLetter.from_headers([(dead_letter.HEADER_TOPIC, None)])  # type: ignore[list-item]


@pytest.mark.parametrize("topic", ["", "a\0b", "t" * 250])
def test_a_letter_taken_from_no_topic_is_none_of_ours(topic: str) -> None:
    place = Place(topic="decision-requests", partition=0, offset=1)
    kept = Kept(
        attempt=4,
        place=place,
        requested_ms=1,
        first_error=Cause(reason="r", field="f", expected="e"),
        taken_from=replace(place, topic=topic),
    )
    headers = [("topic", b"t"), ("partition", b"0"), ("offset", b"1"), (HEADER_KEPT, encode(kept))]
    with pytest.raises(InvalidMessage, match="taken_from"):
        DeadLetter.from_headers(headers)


class Statements:
    """A connection that counts what it is asked, and takes every row."""

    def __init__(self) -> None:
        self.asked: list[list[list[Any]]] = []

    async def execute(self, _query: str, columns: list[list[Any]]) -> Any:
        self.asked.append(columns)
        return SimpleNamespace(rowcount=len(columns[0]))


@pytest.mark.parametrize("count", [1, 500])
async def test_dead_letters_and_ledgers_take_one_statement_however_many_they_are(count: int) -> None:
    connection: Any = Statements()
    result = WriteResult()
    letters = [
        DeadLetter(
            topic="t", partition=0, offset=n, attempt=1, reason="not_json", field="value", expected="JSON"
        )
        for n in range(count)
    ]
    await writes.dead_letters(connection, letters, {"t": 3}, result)
    summaries = [
        Summary(
            at=NOW, lane="decisions", ledger=Ledger(topic="t", partition=0, start=n, end=n + 1, requests=1)
        )
        for n in range(count)
    ]
    await writes.ledgers(connection, summaries, {"t": 3}, result)
    assert [len(columns[0]) for columns in connection.asked] == [count, count]
    assert (result.dead_letters, result.ledgers, result.duplicates) == (count, count, 0)
    await writes.dead_letters(connection, [], {}, result)
    assert len(connection.asked) == 2
