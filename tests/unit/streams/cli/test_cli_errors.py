"""Errors of the command line: one line that names what is wrong, and an exit code that means something."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.schemas.errors import InvalidMessage, InvalidSetting, PointsmanError
from pointsman.streams.cli import failure
from pointsman.streams.errors import KafkaUnavailable, TopicProblem, WorkerNotRunning
from pointsman.streams.store.errors import StoreUnavailable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSetting("kafka", "a text"), 2),
        (InvalidMessage("wrong_type", "input.files", "a list"), 2),
        (failure.Usage("no"), 2),
        (KafkaUnavailable("away"), 3),
        (StoreUnavailable("away"), 3),
        (WorkerNotRunning("none"), 3),
        (TopicProblem("missing"), 1),
        (PointsmanError("any"), 1),
        (RuntimeError("a bug"), None),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, code: int | None) -> None:
    assert failure.exit_code(error) == code


def test_a_message_of_several_lines_becomes_one() -> None:
    assert failure.one_line(PointsmanError("first\n  second")) == "first second"


def test_an_unknown_command_is_bad_usage(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("nosuch")
    assert ran.code == 2
    assert "nosuch" in ran.err


def test_no_command_prints_the_help(pointsman: Callable[..., Any]) -> None:
    ran = pointsman()
    assert ran.code == 0
    assert "pointsman demo" in ran.out


def test_a_misspelt_variable_of_ours_is_named(
    pointsman: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_KAFKAA", "x")
    ran = pointsman("doctor", "--settings")
    assert ran.code == 2
    assert ran.err.startswith("pointsman: POINTSMAN_KAFKAA: no such setting")
    assert ran.err.count("\n") == 1


def test_where_nothing_runs_it_says_how_to_start_it(pointsman: Callable[..., Any]) -> None:
    for words in (
        ("flags", "get"),
        ("topics", "check"),
        ("db", "status"),
        ("worker",),
        ("explain", "x"),
        ("audit", "verify"),
    ):
        ran = pointsman(*words)
        assert ran.code == 3, words
        assert ran.err == f"pointsman: {failure.NOTHING_RUNS}\n", words


def test_a_broker_that_does_not_answer_is_named_without_a_traceback(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("topics", "check", "--kafka", "127.0.0.1:1")
    assert ran.code == 3
    assert ran.err.splitlines() == [
        "pointsman: no Kafka broker answers at 127.0.0.1:1 (KafkaConnectionError)"
    ]


def test_a_data_folder_that_cannot_be_made_is_named_before_anything_starts(
    pointsman: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ran = pointsman("up", "--data-dir", str(tmp_path / "file" / "below"))
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith(
        f"pointsman: {tmp_path}/file/below cannot be made (Not a directory)"
    )
    assert "Traceback" not in ran.err


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pointsman.streams.cli", "decide", "nosuchfile", "--debug"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "nosuchfile cannot be read" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(
            (name,)
            for name in ("up", "demo", "worker", "decide", "status", "train", "explain", "doctor", "version")
        ),
        *(("flags", name) for name in ("get", "set")),
        *(("topics", name) for name in ("create", "check")),
        *(("db", name) for name in ("migrate", "status")),
        *(("audit", name) for name in ("export", "digest", "verify", "expire", "forget")),
        *(("agents", name) for name in ("list", "check")),
        *(("alerts", name) for name in ("rules", "write")),
    ],
)
def test_every_command_explains_itself_with_an_example(
    pointsman: Callable[..., Any], words: tuple[str, ...]
) -> None:
    ran = pointsman(*words, "--help")
    assert ran.code == 0
    assert f"Example:  pointsman {' '.join(words)}" in ran.out


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import atexit, sys\n"
        "heavy = {'sklearn', 'faust', 'aiokafka', 'numpy', 'psycopg', 'confluent_kafka'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "from pointsman.streams.cli import main\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "HEAVY []\n"
