"""Dead letters are listed, shown and sent again: each once, with its id, and the outcome says so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from pointsman.schemas.codec import Decoder
from pointsman.schemas.outcome import Outcome
from pointsman.streams.errors import Fenced
from pointsman.streams.letters import Wanted
from pointsman.streams.redrive import Redriver
from tests.support.commands import Ran, pointsman
from tests.support.flaky import Flaky
from tests.support.pipeline import Pipeline, account, request

FLAG = "flaky-rollout"


@pytest.fixture
def flaky(tmp_path: Path, pipeline: Pipeline) -> Flaky:
    """The agent, closed; workers of this pipeline have it, and nothing waits long."""
    made = Flaky(tmp_path)
    pipeline.options = {"agents": str(made.folder), "retry_delays_ms": "50,100"}
    return made


def ask(number: int, how: str = "later", **changes: Any) -> tuple[bytes | None, bytes | None]:
    return request(number, agent="flaky", input={"how": how}, **changes)


def dlq(pipeline: Pipeline, *words: str) -> Ran:
    settings = {"kafka": pipeline.bootstrap, "topic_prefix": pipeline.prefix, "group": f"{pipeline.prefix}g"}
    return pointsman(settings | {"data_dir": str(pipeline.folder / "data")}, "dlq", *words)


async def letters(pipeline: Pipeline, count: int) -> list[Any]:
    return await asyncio.to_thread(
        pipeline.read, pipeline.names.dead_letters, lambda found: len(found) >= count
    )


async def outcomes(pipeline: Pipeline, count: int) -> list[Outcome]:
    found = await asyncio.to_thread(pipeline.read, pipeline.names.outcomes, lambda read: len(read) >= count)
    return [Decoder(Outcome).decode(each.value()) for each in found]


async def test_letters_are_sent_again_once_and_keep_their_ids_and_arms(
    pipeline: Pipeline, flaky: Flaky
) -> None:
    await pipeline.prepare(flag=FLAG, percentage=50)
    pipeline.worker().wait_ready()
    pipeline.worker("sink").wait_ready()
    numbers = range(20)
    pipeline.send(ask(number) for number in numbers)
    dead = await letters(pipeline, 20)
    offsets = {each.key(): int(dict(each.headers())["offset"]) for each in dead}

    listed = await asyncio.to_thread(dlq, pipeline, "list", "--json")
    assert (listed.code, listed.json()["found"], listed.json()["by_reason"]) == (0, 20, {"try_later": 20})
    arms = {}
    for each in listed.json()["letters"]:
        assert (each["attempts"], each["agent"], each["sent_again"]) == (3, "flaky", False)
    name = listed.json()["letters"][0]["letter"]
    shown = (await asyncio.to_thread(dlq, pipeline, "show", name, "--json")).json()
    assert shown["obstacle"] is None
    assert shown["arm"].endswith("(flag version 1, 50 %)")
    for each in dead:
        kept = dict(each.headers())["pointsman-kept"]
        arms[each.key().decode()] = "candidate" if b'"arm":"candidate"' in kept else "control"
    assert set(arms.values()) == {"candidate", "control"}

    flaky.open()
    await pipeline.flag(FLAG, 0)
    dry = await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--dry-run", "--json")
    assert (dry.code, dry.json()["counts"]) == (0, {"would be sent": 20})
    some = await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--max", "5", "--json")
    assert some.json()["counts"] == {"sent": 5}
    rest = await asyncio.to_thread(dlq, pipeline, "redrive", "--reason", "try_later", "--json")
    assert rest.json()["counts"] == {"sent before": 5, "sent": 15}
    again = await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--json")
    assert (again.code, again.json()["counts"]) == (0, {"sent before": 20})

    found = await outcomes(pipeline, 20)
    assert account([f"r-{n}" for n in numbers], [each.decision_id for each in found]).clean
    for each in found:
        assert each.history
        assert (each.history.redriven, each.history.attempts) == (1, 1)
        assert each.history.first_place is not None
        assert each.history.first_place.offset == offsets[each.decision_id.encode()]
        assert each.place.offset != each.history.first_place.offset
        assert (each.arm, each.flag.percentage) == (arms[each.decision_id], 50)
    await asyncio.to_thread(
        pipeline.wait_rows, "SELECT count(*) FROM ml_learning.decisions WHERE redriven = 1", 20
    )
    await asyncio.to_thread(
        pipeline.wait_rows, "SELECT coalesce(sum(outcomes), 0) FROM ml_learning.lane_ledger", 20
    )
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.dead_letters", 20)
    assert await pipeline.ledger_differences() == []


async def test_a_message_that_comes_back_again_and_again_is_sent_again_only_by_force(
    pipeline: Pipeline, flaky: Flaky
) -> None:
    pipeline.options["retry_reasons"] = ""
    await pipeline.prepare()
    pipeline.worker().wait_ready()
    pipeline.send([ask(1, "never")])
    for time in range(1, 4):
        await letters(pipeline, time)
        assert (await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--json")).json()["counts"][
            "sent"
        ] == 1
    await letters(pipeline, 4)
    refused = await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--json")
    assert refused.code == 1
    assert refused.json()["counts"] == {"sent before": 3, "refused": 1}
    assert "came back 3 times" in refused.json()["letters"][-1]["why"]
    forced = await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--force")
    assert (forced.code, forced.out) == (0, "3 sent before, 1 sent\n")
    last = (await letters(pipeline, 5))[-1]
    assert {each.key() for each in await letters(pipeline, 5)} == {b"r-1"}
    assert dict(last.headers())["attempt"] == b"1"


async def test_what_cannot_be_sent_again_is_refused_with_its_reason(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    pipeline.worker().wait_ready()
    pipeline.send(
        [request(1, input={"subject": "x" * 300_000}), (b"k", None), (os.urandom(5_000), b"{"), (b"k", b"{")],
        partition=0,
    )
    await letters(pipeline, 4)
    ran = await asyncio.to_thread(dlq, pipeline, "redrive", "--all", "--dry-run", "--json")
    assert ran.code == 1
    assert ran.json()["counts"] == {"refused": 3, "would be sent": 1}
    why = [each["why"] for each in ran.json()["letters"]]
    assert [text.split(":")[0] for text in why] == [
        "its bytes were too large to be kept", "its message has no value", "its key was too large to be kept", "",
    ]  # fmt: skip
    table = await asyncio.to_thread(dlq, pipeline, "list")
    assert table.code == 0
    assert table.out.startswith("4 dead letters: 2 not_json, ")
    nothing = await asyncio.to_thread(dlq, pipeline, "redrive")
    assert nothing.code == 2
    assert "say which letters" in nothing.err


async def test_the_same_request_sent_anew_and_redriven_has_one_outcome(
    pipeline: Pipeline, flaky: Flaky
) -> None:
    pipeline.options["retry_reasons"] = ""
    await pipeline.prepare()
    pipeline.worker().wait_ready()
    pipeline.send([ask(1)])
    await letters(pipeline, 1)
    flaky.open()
    pipeline.send([ask(1)])
    assert len(await outcomes(pipeline, 1)) == 1
    assert (await asyncio.to_thread(dlq, pipeline, "redrive", "--all")).out == "1 sent\n"
    pipeline.send([ask(2)] * 3)
    pipeline.send([ask(number) for number in range(3, 30)])
    found = await outcomes(pipeline, 29)
    assert account([f"r-{n}" for n in range(1, 30)], [each.decision_id for each in found]).clean


async def three_letters(pipeline: Pipeline) -> None:
    """Of nonsense, and no worker that reads what is sent again."""
    await pipeline.prepare()
    worker = pipeline.worker(retry_reasons="").wait_ready()
    pipeline.send([(b"k", b"{"), (b"k", b"["), (b"k", b"nonsense")])
    await letters(pipeline, 3)
    assert worker.stop() == 0


async def test_of_two_runs_at_once_the_later_fences_the_earlier_and_each_letter_is_sent_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three_letters(pipeline)
    group = pipeline.settings.group
    slow, quick = (
        Redriver(pipeline.bootstrap, pipeline.names, group=group, by=who) for who in ("slow", "quick")
    )
    plan = slow._plan
    limits = {"most": 10, "times_max": 3}

    async def overtaken(*args: Any) -> Any:
        results = await plan(*args)
        assert {each.end for each in await quick.run(Wanted(), **limits)} == {"sent"}
        return results

    monkeypatch.setattr(slow, "_plan", overtaken)
    with pytest.raises(Fenced, match="another redrive"):
        await slow.run(Wanted(), **limits)

    requests = await asyncio.to_thread(pipeline.read, pipeline.names.requests, lambda found: len(found) >= 6)
    assert len(requests) == 6
    notes = await asyncio.to_thread(pipeline.read, pipeline.names.redrives, lambda found: len(found) >= 3)
    assert [b'"redriven_by":"quick"' in each.value() for each in notes] == [True] * 3


async def test_a_run_that_fails_between_messages_and_notes_has_sent_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three_letters(pipeline)
    redriver = Redriver(pipeline.bootstrap, pipeline.names, group=pipeline.settings.group, by="me")
    with monkeypatch.context() as patch:
        patch.setattr(redriver, "_notes", AsyncMock(side_effect=OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            await redriver.run(Wanted(), most=10, times_max=3)
    results = await redriver.run(Wanted(), most=10, times_max=3)
    assert [each.end for each in results] == ["sent"] * 3
    requests = await asyncio.to_thread(pipeline.read, pipeline.names.requests, lambda found: len(found) >= 6)
    assert len(requests) == 6, "each once, and once again"
