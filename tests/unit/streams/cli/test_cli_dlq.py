"""`dlq`: what it asks for, and what it says of a letter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from pointsman.schemas import dead_letter
from pointsman.schemas.codec import encode
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.outcome import Cause, Place
from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN, Assigned, Kept, Redriven
from pointsman.streams.cli.dlq import moment
from pointsman.streams.cli.failure import Usage
from pointsman.streams.decisions.validate import Rejected, letter
from pointsman.streams.letters import Letter, Wanted, obstacle, read
from pointsman.streams.output import Record
from pointsman.streams.redrive import message_headers
from pointsman.streams.topics import Names
from pointsman.streams.unreadable import unreadable
from tests.builders import AT_MS, record, valid

NAMES = Names()
NOW = datetime(2026, 11, 21, 15, 0, tzinfo=UTC)
PLACE = Place(topic=NAMES.requests, partition=0, offset=7)
CAUSE = Cause(reason="try_later", field="input", expected="why")


def of(
    refused: Record, *, reason: str = "feature_error", kept: Kept | None = None, bytes_max: int = 1_000
) -> Letter:
    headers = [(HEADER_KEPT, encode(kept))] if kept else []
    error = InvalidMessage(reason, "input", "what")
    key, value, all_headers = letter(Rejected(refused, error), bytes_max, 4, headers)
    return read(record(value, key=key, offset=17, topic=NAMES.dead_letters, partition=2, headers=all_headers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-21T15:00Z", NOW),
        ("2026-11-21T17:00+02:00", NOW),
    ],
)
def test_a_time_is_so_long_ago_or_a_moment(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5w", "-2h", "999999999d", "1e3s"])
def test_what_is_no_time_is_bad_usage(text: str) -> None:
    with pytest.raises(Usage, match="is no time"):
        moment(text, NOW)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("redrive",), "say which letters"),
        (("redrive", "--dry-run", "--max", "3"), "say which letters"),
        (("redrive", "2-17"), "names no letter"),
        (("list", "--reason", "nosuch"), "no reason"),
        (("show", "x"), "names no letter"),
        (("list", "--since", "soon"), "is no time"),
    ],
)
def test_bad_usage_is_said_before_anything_is_asked(
    pointsman: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    ran = pointsman("dlq", *words)
    assert ran.code == 2
    assert said in ran.err


def test_where_nothing_runs_it_says_so(pointsman: Callable[..., Any]) -> None:
    assert pointsman("dlq", "list").code == 3


def test_a_letter_tells_what_it_was() -> None:
    kept = Kept(
        attempt=4, place=PLACE, requested_ms=AT_MS, first_error=CAUSE,
        assigned=Assigned(arm="candidate", percentage=5, version=3),
    )  # fmt: skip
    found = of(valid("a", 7), kept=kept)
    assert (found.name, found.reason, found.attempt, found.request_id, found.agent) == (
        "2/17", "feature_error", 4, "a", "small",
    )  # fmt: skip
    assert (found.place, found.kept, found.times_redriven) == (PLACE, kept, 0)
    assert found.headers == ()


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (valid("a"), ""),
        (record(b"nonsense"), ""),
        (record(b"x" * 1_001), "too large to be kept"),
        (record(None), "has no value"),
        (record(b"x", key=b"k" * 5_000), "key was too large"),
        (record(b"x", topic="elsewhere"), "which nobody sends to"),
    ],
)
def test_what_stands_in_the_way_is_said(refused: Record, said: str) -> None:
    found = obstacle(of(refused), NAMES, 3)
    assert said in found
    assert bool(found) is bool(said)


def test_the_arm_and_the_first_place_go_on_from_one_redrive_to_the_next() -> None:
    assigned = Assigned(arm="candidate", percentage=5, version=3)
    kept = Kept(attempt=4, place=PLACE, requested_ms=AT_MS, first_error=CAUSE, assigned=assigned)
    refused = valid("a", 7)
    refused = msgspec.structs.replace(refused, headers=(("mine", b"1"), ("reason", b"forged")))
    headers: Any = message_headers(of(refused, kept=kept))
    assert [name for name, _ in headers] == ["mine", HEADER_REDRIVEN]
    again = valid("a", 99)
    again = msgspec.structs.replace(again, headers=tuple(headers))
    second = of(again)
    assert (second.times_redriven, second.redriven and second.redriven.count) == (1, 1)
    headers = message_headers(second)
    assert [name for name, _ in headers] == ["mine", HEADER_REDRIVEN]
    assert second.redriven == Redriven(
        count=1, place=PLACE, letter=second.letter, first_error=CAUSE, assigned=assigned
    )
    third = valid("a", 200)
    third = msgspec.structs.replace(third, headers=tuple(headers))
    twice = of(third).redriven
    assert twice == Redriven(count=2, place=PLACE, letter=second.letter, first_error=CAUSE, assigned=assigned)
    assert obstacle(of(third), NAMES, 2).startswith("it came back 2 times")


@pytest.mark.parametrize("reason", ["too_large_batch", "corrupt_batch"])
@pytest.mark.parametrize("digest", ["ab", None])
def test_what_stands_for_a_batch_is_no_message_to_send_again(reason: str, digest: str | None) -> None:
    stands = unreadable(
        TopicPartition(NAMES.requests, 0),
        (5, 9),
        InvalidMessage(reason, "batch", "less"),
        sha256=digest,
        size=7,
        crc32c=1,
        timestamp=AT_MS,
    )
    _, value, headers = letter(Rejected(stands, stands.error), 1_000)
    read_back = read(record(value, headers=headers, topic=NAMES.dead_letters))
    assert read_back.place.offset == 5
    assert "stands for a batch" in obstacle(read_back, NAMES, 3)


@pytest.mark.parametrize("missing", dead_letter.HEADERS)
def test_what_lacks_a_header_is_no_letter(missing: str) -> None:
    _, value, headers = letter(Rejected(valid("a"), InvalidMessage("r", "f", "e")), 1_000)
    left = [(name, text) for name, text in headers if name != missing]
    with pytest.raises(ValueError, match=missing):
        read(record(value, headers=left))


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(names=["2/17"], reasons=["feature_error"], agents=["small"], partitions=[0]), True),
        (Wanted(names=["2/18"]), False),
        (Wanted(reasons=["not_json"]), False),
        (Wanted(agents=["other"]), False),
        (Wanted(partitions=[2]), False),
        (Wanted(since=datetime.fromtimestamp(AT_MS / 1000, UTC)), True),
        (Wanted(since=datetime.fromtimestamp(AT_MS / 1000 + 1, UTC)), False),
        (Wanted(until=datetime.fromtimestamp(AT_MS / 1000, UTC)), False),
    ],
)
def test_each_filter_leaves_out_what_it_says(wanted: Wanted, takes: bool) -> None:
    assert wanted.takes(of(valid("a"))) is takes
