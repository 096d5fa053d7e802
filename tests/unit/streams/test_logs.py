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
