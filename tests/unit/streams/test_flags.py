"""Flags: newer wins, older changes nothing, what is no flag is passed over, what is impossible is never written."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas.codec import encode
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage
from pointsman.streams import flags as module
from pointsman.streams import metrics
from pointsman.streams.errors import KafkaUnavailable, TopicProblem
from pointsman.streams.flags import FlagFollower, Flags, FlagWriter, apply, checked


def flag(version: int, percentage: float = 5, name: str = "f", **changes: Any) -> Flag:
    fields = {"seed": "s", "changed_at": datetime(2026, 1, 1, tzinfo=UTC), "changed_by": "me", **changes}
    return Flag(name=name, version=version, percentage=percentage, **fields)


def test_a_flag_that_was_never_set_is_none() -> None:
    assert Flags().get("f") is None
    assert Flags().all() == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=30))
def test_the_newest_version_stands_whatever_is_replayed(found: list[tuple[str, int]]) -> None:
    flags = Flags()
    for name, version in found:
        flags.apply(flag(version, version * 10, name))
    for name in {name for name, _ in found}:
        newest = max(version for each, version in found if each == name)
        assert flags.get(name) == flag(newest, newest * 10, name)
    assert [each.name for each in flags.all()] == sorted({name for name, _ in found})


def test_a_change_reaches_the_metrics_and_a_replay_does_not() -> None:
    flags = Flags()
    flags.apply(flag(3, 20))
    flags.apply(flag(2, 50))
    assert metrics.FLAG.labels("f")._value.get() == 20
    assert metrics.FLAG_VERSION.labels("f")._value.get() == 3


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"nonsense",
        b"{}",
        b"[]",
        *(encode(flag(1, p)) for p in (-1, 101, float("nan"))),
        encode(flag(0)),
    ],
)
def test_what_is_no_flag_is_passed_over(value: bytes | None) -> None:
    flags = Flags()
    flags.apply(flag(1))
    apply(flags, value)
    assert flags.all() == [flag(1)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"percentage": -0.01}, "percentage"),
        ({"percentage": 100.01}, "percentage"),
        ({"percentage": float("nan")}, "percentage"),
        ({"name": "Not a flag"}, "name"),
        ({"name": ""}, "name"),
        ({"version": 0}, "version"),
        ({"seed": ""}, "seed"),
    ],
)
def test_an_impossible_flag_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        checked(**{**msgspec.structs.asdict(flag(1)), **changes})
    assert raised.value.field == field


def test_a_possible_flag_is_what_its_readers_will_read() -> None:
    assert checked(**msgspec.structs.asdict(flag(1, 12.5))) == flag(1, 12.5)


class Producer:
    """A producer that notes what it is given."""

    sent: list[bytes]

    def __init__(self, **_options: Any) -> None:
        self.running = False

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    async def send_and_wait(self, _topic: str, value: bytes, key: bytes) -> None:
        assert self.running
        assert key == msgspec.json.decode(value)["name"].encode()
        self.sent.append(value)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What writers of flags send; the topic holds version 3 of the flag ``f`` and nothing else."""

    async def read(_writer: FlagWriter) -> Flags:
        return Flags({"f": flag(3)})

    monkeypatch.setattr(Producer, "sent", [], raising=False)
    monkeypatch.setattr(module, "AIOKafkaProducer", Producer)
    monkeypatch.setattr(FlagWriter, "read", read)
    return Producer.sent


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize(
    ("name", "percentage", "field"),
    [
        ("f", -0.01, "percentage"),
        ("f", 100.01, "percentage"),
        ("f", float("nan"), "percentage"),
        ("Not a flag", 5, "name"),
        ("", 5, "name"),
    ],
)
async def test_an_impossible_flag_is_refused_before_it_is_written(
    name: str, percentage: float, field: str, transactional: bool, written: list[bytes]
) -> None:
    writer = FlagWriter("", "t", group="g", transactional=transactional)
    with pytest.raises(InvalidMessage) as raised:
        await writer.set(name, percentage, by="me")
    assert raised.value.field == field
    assert written == []


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize(("name", "version"), [("f", 4), ("new", 1)])
async def test_a_flag_that_is_set_is_written_as_its_readers_will_read_it(
    name: str, version: int, transactional: bool, written: list[bytes]
) -> None:
    made = await FlagWriter("", "t", group="g", transactional=transactional).set(name, 12.5, by="me")
    assert (made.name, made.percentage, made.version) == (name, 12.5, version)
    flags = Flags()
    for value in written:
        apply(flags, value)
    assert flags.all() == [made]


@pytest.mark.parametrize("error", [KafkaUnavailable("gone"), TopicProblem("gone"), OSError(), TimeoutError()])
async def test_a_follower_outlives_whatever_keeps_it_from_reading(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = FlagFollower("", "t")
    follower.flags.apply(flag(4))
    failed, tried = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        if failed.is_set():
            tried.set()
            await asyncio.Event().wait()
        metrics.FLAGS_CURRENT.set(1)
        failed.set()
        raise error

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(follower, "_read", read)
    monkeypatch.setattr(follower, "sleep", at_once)
    await follower.start()
    await asyncio.wait_for(tried.wait(), 10)
    assert follower.flags.all() == [flag(4)], "the last known flags stand"
    assert metrics.FLAGS_CURRENT._value.get() == 0, "and may be old"
    assert follower.crash_reason is None
    await follower.stop()


async def test_a_follower_that_has_heard_nothing_yet_is_not_current() -> None:
    metrics.FLAGS_CURRENT.set(1)  # as one before it left it
    follower = FlagFollower("127.0.0.1:1", "control-flags")
    await follower.on_start()

    assert metrics.FLAGS_CURRENT._value.get() == 0
