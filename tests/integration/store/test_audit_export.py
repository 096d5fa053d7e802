"""Exports hold every decision of the window with everything about it, in both forms, in little memory."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count as numbers
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow.parquet as parquet
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pointsman.schemas.outcome import Answers
from pointsman.streams.cli.export import complete, moment
from pointsman.streams.cli.failure import Usage
from pointsman.streams.store import AuditStore, export
from pointsman.streams.store.export import COLUMNS, Window, to_csv, to_parquet
from pointsman.streams.store.pool import Connection
from tests.integration.store.helpers import batch, fill
from tests.support.commands import pointsman
from tests.support.outcomes import START, answer, feedback, outcome, shadow

RUNS = numbers()
DAY = timedelta(days=1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
WILD = st.sampled_from(
    ['"', '""', ",", "\n", "\r\n", "\\", "\\.", "\\N", "'", "NULL", " ", "ü", "𝄞", "\ufeff", "\x1f"]
)
WORDS = st.lists(st.one_of(TEXT, WILD), max_size=4).map("".join)


@pytest_asyncio.fixture
async def owner(migrated: str) -> AsyncIterator[Connection]:
    """A connection as the command has it, but for what a server may be set to."""
    options = "-c timezone=UTC -c datestyle=German,DMY -c extra_float_digits=1"
    async with await psycopg.AsyncConnection.connect(migrated, autocommit=True, options=options) as connected:
        yield connected


async def as_csv(connection: Connection, window: Window) -> list[dict[str, str]]:
    out = io.BytesIO()
    rows = await to_csv(connection, window, out)
    found = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    assert len(found) == rows
    return found


async def as_parquet(connection: Connection, window: Window) -> list[dict[str, Any]]:
    out = io.BytesIO()
    rows = await to_parquet(connection, window, out)
    found: list[dict[str, Any]] = parquet.read_table(io.BytesIO(out.getvalue())).to_pylist()
    assert len(found) == rows
    return found


def stored(people: psycopg.Connection, window: Window) -> list[dict[str, Any]]:
    """Straight from the view that people read, in the order of time."""
    with people.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        query = (
            "SELECT d.*, encode(commitment, 'hex') AS commitment, features::text AS features"
            " FROM ml_learning.decisions AS d WHERE created_at >= %s AND created_at < %s"
            " ORDER BY created_at, topic, partition, request_offset, revision"
        )
        return cursor.execute(query, (window.since, window.before)).fetchall()


def cell(value: Any) -> str:
    """A value as CSV has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    return repr(value) if isinstance(value, float) else str(value)


# -- what stands there -----------------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS, st.floats(0, 1)), min_size=1, max_size=4))
async def test_any_text_and_number_survives_in_both_forms(
    store: AuditStore,
    people: psycopg.Connection,
    owner: Connection,
    rows: list[tuple[str, str, str, str, float]],
) -> None:
    run = next(RUNS)
    at = START + run * DAY
    given_ = [
        outcome(
            run * 10 + number,
            decision_id=f"{run}-{number}-{id_}",
            decided_at=at + timedelta(microseconds=number),
            unit=unit or None,
            reason=reason,
            confidence=score,
            requested_at=at - timedelta(seconds=number) if number else None,
            input=Raw(msgspec.json.encode({"said": said})),
        )
        for number, (id_, unit, reason, said, score) in enumerate(rows)
    ]
    told = [
        feedback(f"f{run}", each.decision_id, label=said[:100] or None, comment=said, correction=reason)
        for each, (_, _, reason, said, _) in zip(given_, rows, strict=True)
    ]
    await store.write(batch(0, len(given_), given_, lane=f"l{run}"))
    await store.write(batch(0, len(told), topic="f", feedback=told, lane=f"l{run}"))
    window = Window(at, at + DAY)
    expected = stored(people, window)
    assert len(expected) == len(given_)
    for form in (await as_csv(owner, window), await as_parquet(owner, window)):
        assert len(form) == len(expected)
        plain = isinstance(form[0]["success"], str)
        for found, wanted, one, (_, _, reason, said, score) in zip(form, expected, given_, rows, strict=True):
            assert found["input"] == bytes(one.input).decode()
            for name in COLUMNS.keys() & wanted.keys() - {"input"}:
                value: Any = found[name]
                if plain and isinstance(wanted[name], datetime):
                    value = datetime.fromisoformat(value)
                elif plain and isinstance(wanted[name], float):
                    value = float(value)
                assert value == (cell(wanted[name]) if isinstance(value, str) else wanted[name]), name
            assert float(found["confidence"]) == score
            events = {event["kind"]: event["value"] for event in json.loads(found["feedback"])}
            assert events.pop("label", "") == said[:100]
            assert events == {"comment": said, "correction": reason}


async def test_everything_about_a_decision_is_in_its_row(store: AuditStore, owner: Connection) -> None:
    ml = answer("ml@7", "none", 0.25)
    full = await fill(
        store, unit="repo-1", answers=Answers(rules=answer(), ml=ml), fallback_reason="model_timeout"
    )
    window = Window(full.decided_at - DAY, full.decided_at + DAY)
    (row,) = await as_parquet(owner, window)
    empty = {name for name, value in row.items() if value is None}
    assert empty == {"requested_at", "ml_version", "input_base64", "trace_id", "model_ms"}
    assert (row["ml_decider"], row["ml_score"], row["attempts"], row["first_reason"]) == (
        "ml@7",
        0.25,
        2,
        "try_later",
    )
    (said,) = json.loads(row["shadows"])
    assert (said["decider"], said["prediction"], said["score"]) == ("ml@7", "none", 0.2)
    events = json.loads(row["feedback"])
    assert {event["kind"]: event["value"] for event in events} == {
        "label": "none", "rating": 4, "comment": "Ann says so",
    }  # fmt: skip
    for event in events:
        assert set(event) == {
            "event_id", "kind", "value", "sender", "authorised", "observed_at", "known_at", "commitment",
        }  # fmt: skip
    unit_and_input = b"repo-1\0" + bytes(full.input)
    committed = hashlib.sha256(bytes.fromhex(row["salt"]) + unit_and_input).hexdigest()
    assert row["commitment"] == committed, "who has the file can check it"
    (line,) = await as_csv(owner, window)
    assert list(line) == list(row) == list(COLUMNS)
    assert {name for name, value in line.items() if not value} == empty


def test_an_export_has_every_column_of_the_view(people: psycopg.Connection) -> None:
    described = people.execute("SELECT * FROM ml_learning.decisions LIMIT 0").description
    assert described is not None
    assert {column.name for column in described} - COLUMNS.keys() == set()


async def test_the_window_is_half_open_and_one_agent_can_be_asked_for(
    store: AuditStore, owner: Connection
) -> None:
    given_ = [outcome(number, agent="b" if number == 3 else "a") for number in range(6)]
    await store.write(batch(0, 6, given_))
    window = Window(given_[1].decided_at, given_[4].decided_at)
    for read in (as_csv, as_parquet):
        assert [row["decision_id"] for row in await read(owner, window)] == ["d0-1", "d0-2", "d0-3"]
        only = Window(window.since, window.before, "a")
        assert [row["decision_id"] for row in await read(owner, only)] == ["d0-1", "d0-2"]
        assert await read(owner, Window(START - DAY, START)) == []


async def test_an_export_of_what_was_known_then_holds_nothing_that_came_later(
    store: AuditStore, people: psycopg.Connection, owner: Connection
) -> None:
    async def tell(number: int, label: str) -> None:
        told = {"topic": "decision-feedback", "feedback": [feedback(f"e{number}", label=label)]}
        await store.write(batch(number, number + 1, **told))

    def now() -> datetime:
        return people.execute("SELECT clock_timestamp()").fetchone()[0]  # type: ignore[index, no-any-return]

    await store.write(batch(0, 1, [outcome(0)]))
    before_all, _ = now(), await tell(0, "none")
    then, _ = now(), await tell(1, "update")
    await store.write(batch(0, 1, topic="decision-shadows", shadows=[shadow()]))
    await store.write(batch(1, 2, [outcome(1)]))

    async def seen(known_at: datetime | None) -> list[tuple[str, list[str], int]]:
        window, found = Window(START, START + DAY, None, known_at), []
        for row in await as_csv(owner, window):
            labels = [event["value"] for event in json.loads(row["feedback"])]
            found.append((row["decision_id"], labels, len(json.loads(row["shadows"]))))
        assert len(await as_parquet(owner, window)) == len(found)
        return found

    assert await seen(before_all) == [("d0-0", [], 0)]
    assert await seen(then) == [("d0-0", ["none"], 0)]
    assert await seen(None) == await seen(now()) == [("d0-0", ["none", "update"], 1), ("d0-1", [], 0)]


async def test_pieces_follow_each_other_without_gap_or_overlap(
    store: AuditStore, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [
        outcome(number, decided_at=START + timedelta(seconds=7 * (number % 40))) for number in range(100)
    ]
    await store.write(batch(0, 100, every))
    monkeypatch.setattr(export, "PIECE_ROWS", 9)
    window = Window(START, START + DAY)
    async with export._snapshot(owner):
        pieces = await export._pieces(owner, window)
    assert len(pieces) > 3
    assert pieces[0]["since"] == window.since
    assert pieces[-1]["before"] == window.before
    for read in (as_csv, as_parquet):
        found = await read(owner, window)
        assert sorted(row["decision_id"] for row in found) == sorted(each.decision_id for each in every)
        assert [row["created_at"] for row in found] == sorted(row["created_at"] for row in found)


async def test_an_input_that_is_no_text_is_there_all_the_same_and_a_deleted_one_is_not(
    store: AuditStore, people: psycopg.Connection, owner: Connection
) -> None:
    odd = b'{"x": "\xff"}'
    await store.write(batch(0, 2, [outcome(0, input=Raw(odd)), outcome(1, input=Raw(b'{"x": "\\u0000"}'))]))
    window = Window(START, START + DAY)
    first, second = await as_parquet(owner, window)
    assert (first["input"], base64.b64decode(first["input_base64"])) == (None, odd)
    assert (second["input"], second["input_base64"]) == ('{"x": "\\u0000"}', None)
    people.execute("DELETE FROM ml_learning.decision_contents")
    for row in await as_csv(owner, window):
        assert (row["unit"], row["input"], row["input_base64"], row["salt"]) == ("", "", "", "")
        assert row["features"] == '{"added": 10.5, "files": 2}'


# -- the command -----------------------------------------------------------------------------------------

FROM_TO = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-02T00:00:00+00:00")


async def test_the_command_writes_a_file_or_its_output_in_both_forms(
    store: AuditStore, migrated: str, tmp_path: Path
) -> None:
    await store.write(batch(0, 3, [outcome(number) for number in range(3)]))
    dsn = {"dsn": migrated}
    file = tmp_path / "out.csv"
    done = pointsman(dsn, "audit", "export", *FROM_TO, "--out", str(file))
    assert (done.code, done.out, done.err) == (0, "", f"pointsman: 3 decisions in {file}\n")
    piped = pointsman(dsn, "audit", "export", *FROM_TO, "--out", "-")
    assert piped.out == file.read_text()
    assert piped.err == "pointsman: 3 decisions\n"
    large = tmp_path / "out.parquet"
    done = pointsman(dsn, "audit", "export", *FROM_TO, "--format", "parquet", "--out", str(large))
    assert done.code == 0, done.err
    assert parquet.read_table(large).num_rows == 3
    command = [
        sys.executable,
        "-m",
        "pointsman.streams.cli",
        "audit",
        "export",
        *FROM_TO,
        "--format",
        "parquet",
    ]
    raw = subprocess.run(
        [*command, "--out", "-"],
        env={**os.environ, "POINTSMAN_DSN": migrated},
        capture_output=True,
        check=True,
    ).stdout
    assert parquet.read_table(io.BytesIO(raw)) == parquet.read_table(large)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "out.parquet"]


def test_a_file_has_its_name_once_it_is_complete_and_leaves_nothing_behind_where_it_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "out.csv"
    file.write_text("before")
    with complete(file) as out:
        out.write(b"new")
        assert file.read_text() == "before"
    assert file.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), complete(file) as out:
        out.write(b"half")
        raise KeyboardInterrupt
    assert file.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]
    nowhere = r"--out .*none/out.csv: cannot be written: No such file or directory"
    with pytest.raises(Usage, match=nowhere), complete(tmp_path / "none" / "out.csv"):
        pass
    (tmp_path / "folder").mkdir()
    taken = r"--out .*folder: cannot be written: Is a directory"
    with pytest.raises(Usage, match=taken), complete(tmp_path / "folder"):
        pass
    full = r"--out .*out.csv: cannot be written: No space left on device"
    with pytest.raises(Usage, match=full), complete(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert file.read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "out.csv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "2026-11-01", "--to", "2026-11-02T00:00:00Z"), "--from 2026-11-01: expected a time with its offset"),
        (("--from", "2026-11-01T00:00:00Z", "--to", "2026-11-02T00:00:00"), "--to 2026-11-02T00:00:00: expected a time"),
        (("--from", "2026-13-01T00:00:00Z", "--to", "2026-11-02T00:00:00Z"), "--from 2026-13-01T00:00:00Z: expected"),
        (("--from", "2026-11-02T01:00:00+01:00", "--to", "2026-11-02T00:00:00Z"), "is not before --to"),
        ((*FROM_TO, "--known-at", "yesterday"), "--known-at yesterday: expected a time"),
    ],
)  # fmt: skip
def test_times_that_are_none_are_refused_by_the_name_of_their_option(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = pointsman(
        {"dsn": "host=127.0.0.1 port=1"}, "audit", "export", *words, "--out", str(tmp_path / "x")
    )
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_moments_of_rfc_3339_are_read() -> None:
    assert moment("--from", "2026-11-01T01:02:03.5+01:00") == datetime(2026, 11, 1, 0, 2, 3, 500_000, UTC)
    assert moment("--from", "2026-11-01T01:02Z") == datetime(2026, 11, 1, 1, 2, tzinfo=UTC)


def test_without_pyarrow_it_says_how_to_get_it_and_csv_needs_none(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "x"
    words = ("audit", "export", *FROM_TO, "--out", str(out))
    done = pointsman({"dsn": migrated}, *words, "--format", "parquet")
    assert (done.code, out.exists()) == (2, False)
    assert "pip install 'pointsman[parquet]'" in done.err
    assert pointsman({"dsn": migrated}, *words).code == 0
    assert out.read_text() == ",".join(COLUMNS) + "\n"


# -- memory ----------------------------------------------------------------------------------------------

MANY, INPUT_BYTES = 24_000, 4_096
MOST_MIB = 160
"""Beyond what an export of nothing takes; the rows are 100 MiB, and as Python's and Arrow's objects three times that. Where
there is pandas, Arrow loads it with the first value: 40 MiB of these."""


@pytest_asyncio.fixture
async def many(store: AuditStore, people: psycopg.Connection) -> Window:
    """One decision through the store, and copies of it."""
    await store.write(batch(0, 1, [outcome()]))
    for table, own in (
        ("agent_decisions", {}),
        (
            "decision_contents",
            {"input": "convert_to('{\"x\":\"' || repeat(md5(n::text), 128) || '\"}', 'UTF8')"},
        ),
        ("decision_minute_shards", {"minute": "minute + n * interval '1 minute'", "decisions": "2000"}),
    ):
        names = [
            name
            for (name,) in people.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ml_learning' AND table_name = %s",
                (table,),
            )
        ]
        others = {
            "created_at": "created_at + n * interval '30 milliseconds'",
            "request_offset": "n",
            "decision_id": "'d' || n",
            **own,
        }
        rows = MANY if "created_at" in names else MANY // 2000
        people.execute(
            f"INSERT INTO ml_learning.{table} ({', '.join(names)})"
            f" SELECT {', '.join(others.get(name, name) for name in names)}"
            f" FROM ml_learning.{table}, generate_series(1, {rows}) AS n".encode()
        )
    people.execute("ANALYZE")
    return Window(START, START + DAY)


MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "pointsman.streams.cli", "audit", "export", *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
"""By a process of its own: what a child is at its beginning is its parent, and the one that runs tests is large."""


def peak_mib(migrated: str, *words: str) -> int:
    """The most memory of a command, which must end well."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        env={**os.environ, "POINTSMAN_DSN": migrated},
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout)


async def test_an_export_of_many_rows_takes_little_memory_and_its_row_groups_are_bounded(
    many: Window, migrated: str, tmp_path: Path
) -> None:
    window = ("--from", many.since.isoformat(), "--to", many.before.isoformat())
    nothing = ("--from", (many.since - DAY).isoformat(), "--to", many.since.isoformat())
    for form in ("csv", "parquet"):
        file = tmp_path / f"out.{form}"
        least = peak_mib(migrated, *nothing, "--format", form, "--out", str(tmp_path / "nothing"))
        most = peak_mib(migrated, *window, "--format", form, "--out", str(file))
        assert most - least < MOST_MIB, (form, least, most)
    assert (tmp_path / "out.csv").stat().st_size > MANY * INPUT_BYTES
    written = parquet.ParquetFile(tmp_path / "out.parquet")
    assert written.metadata.num_rows == MANY + 1
    groups = [written.metadata.row_group(number) for number in range(written.num_row_groups)]
    assert len(groups) > MANY * INPUT_BYTES / export.GROUP_BYTES
    assert max(group.num_rows for group in groups) <= export.PIECE_ROWS
    read = sum(group.num_rows for group in written.iter_batches(1_000, columns=["decision_id"]))
    assert read == MANY + 1
