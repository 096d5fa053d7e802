"""What a log line is, and which lines are none of an operator's business."""

from __future__ import annotations

import json
import logging

import pytest

from pointsman.streams import logs
from pointsman.streams.settings import load


@pytest.fixture(autouse=True)
def _restored() -> object:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_in_json_holds_event_level_process_and_what_was_said_beside(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(load({"log": "json"}, {}).settings, "worker")
    logging.getLogger("pointsman.x").warning("dead letter", extra={"request_id": "r-1", "trace_id": "abc"})

    (line,) = lines(capsys)

    assert (line["event"], line["level"], line["request_id"], line["trace_id"], line["process"]) == (
        "dead letter",
        "warning",
        "r-1",
        "abc",
        "worker",
    )


def test_the_brokers_not_yet_is_left_out_and_other_warnings_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(load({"log": "json"}, {}).settings, "worker")
    sender = logging.getLogger("aiokafka.producer.sender")
    sender.warning("Got error produce response, retrying. Error: %s", "NotEnoughReplicasError")
    sender.warning("Got error produce response, retrying. Error: %s", "NotLeaderForPartitionError")

    (line,) = lines(capsys)

    assert "NotLeaderForPartitionError" in str(line["event"])


def test_an_errors_traceback_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(load({"log": "json"}, {}).settings, "worker")
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("pointsman.x").exception("it broke")

    (line,) = lines(capsys)

    assert "planted" in str(line["exception"])


def line(name: str, text: str = "Unable connect to node with id %s", *values: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "x.py", 1, text, values or ("1",), None)


def test_a_library_that_repeats_itself_is_heard_once_in_a_while_and_the_rest_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    repeats = logs.Repeats()
    assert [repeats.filter(line("aiokafka", "%s", number)) for number in range(50)] == [True] + [False] * 49
    assert repeats.filter(line("aiokafka.consumer.fetcher")), "another logger says something else"
    now += logs.REPEAT_S
    shown = line("aiokafka", "%s", "again")
    assert repeats.filter(shown)
    assert vars(shown)["left_out"] == 49


def test_what_we_say_ourselves_is_always_heard() -> None:
    repeats = logs.Repeats()
    assert all(repeats.filter(line("pointsman.streams.partition")) for _ in range(5))


def test_texts_without_end_do_not_fill_the_memory() -> None:
    repeats = logs.Repeats()
    assert all(repeats.filter(line("faust", f"event {n}")) for n in range(3 * logs.TEMPLATES_MAX))
    assert len(repeats._seen) <= logs.TEMPLATES_MAX
