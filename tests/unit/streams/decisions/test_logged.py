"""What the log says of a request: where it lies and what is wrong with it, and nothing of what stands in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pointsman.streams import logs, partition
from pointsman.streams.settings import Settings, load
from tests.builders import Score, record, request
from tests.unit.streams.decisions.decision_world import World

SECRET = "q7x-of-a-person"


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(partition, "BACKOFF_S", (0.0,))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def requests() -> Iterator[tuple[bytes, bytes]]:
    """Good and bad in every way, each with the secret somewhere: key and value."""
    changes: list[dict[str, Any]] = [
        {"input": {"text": SECRET, "tags": [SECRET]}},
        {"input": {"p": 0.55, "text": SECRET}},
        {"input": {"text": "boom", "tags": [SECRET]}},
        {"input": {"text": "seven--", "tags": [SECRET]}},
        {"input": {"text": "nan", "tags": [SECRET]}},
        {"input": {"p": SECRET}},
        {"input": {"count": 10**9, "text": SECRET}},
        {"input": {"tags": [SECRET, 3]}},
        {"input": SECRET},
        {"agent": SECRET},
        {"agent": f"NO AGENT {SECRET}"},
        {"requested_at": SECRET},
        {"input": {"text": SECRET * 100}},
        {SECRET: SECRET, "agent": None},
    ]
    for number, each in enumerate(changes):
        value = request(f"r-{number}", unit=SECRET, **each)
        yield SECRET.encode(), msgspec.json.encode(value)
    yield SECRET.encode(), msgspec.json.encode(request("r-0", input={"text": f"other {SECRET}"}, unit=SECRET))
    yield SECRET.encode(), msgspec.json.encode(request("r-99", input={"text": SECRET}))
    yield SECRET.encode(), f'{{"id": "{SECRET}'.encode()
    yield SECRET.encode(), SECRET.encode() + b"\xff"


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("reasons", [(), Settings().retry_reasons], ids=["at once", "tried again"])
async def test_a_line_says_where_a_request_lies_and_what_is_wrong_and_nothing_of_its_content(
    form: str, reasons: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(load({"log": form, "log_level": "debug"}, {}).settings, "worker")
    world = World(scorer=Score(), request_bytes_max=1_000, retry_reasons=reasons, retry_delays_ms=(1, 2, 3))
    for offset, (key, value) in enumerate(requests()):
        headers = [("who", SECRET.encode()), ("traceparent", SECRET.encode())]
        world.broker.requests.append(record(value, key=key, offset=offset, headers=headers))
    world.broker.fates.extend(["before", "after", "fenced"])
    await world.settled()
    await world.stop()
    said = capsys.readouterr().err
    assert len(world.broker.letters()) > 10
    assert said.count("dead letter") >= len(world.broker.letters())
    for wanted in ("r-5", "input.p", "wrong_type", "an agent failed on a batch", "partition begins anew"):
        assert wanted in said, wanted
    assert SECRET not in said
