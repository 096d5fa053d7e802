"""Topics: every one has a name here, and what is missing or uneven is said by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pointsman.schemas import topics as contract
from pointsman.streams import topics
from pointsman.streams.errors import TopicProblem
from pointsman.streams.settings import Settings
from pointsman.streams.topics import Names, check, create, states

ALL = {topic.name: topic.partitions or 4 for topic in contract.ALL}


class Admin:
    """Topics of a broker, and what is asked of it."""

    def __init__(self, existing: dict[str, int], codes: dict[str, int] | None = None) -> None:
        self.existing = existing
        self.codes = codes or {}
        self.created: list[Any] = []

    async def list_topics(self) -> list[str]:
        return list(self.existing)

    async def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"topic": name, "error_code": 0, "partitions": [{}] * self.existing[name]} for name in names]

    async def create_topics(self, wanted: list[Any]) -> Any:
        self.created = wanted
        return SimpleNamespace(
            topic_errors=[(each.name, self.codes.get(each.name, 0), "why") for each in wanted]
        )


def test_every_topic_of_the_contracts_has_its_name_with_the_prefix() -> None:
    names = vars(Names("p-"))
    waiting = names.pop("retries")
    assert sorted([*names.values(), *waiting]) == sorted(f"p-{name}" for name in ALL)


def test_delay_topics_are_named_after_their_delays_and_equal_delays_share_one() -> None:
    settings = Settings(topic_prefix="p-", retry_delays_ms=(250, 60_000, 250))
    first, second, third = Names.of(settings).retries
    assert (first, second, third) == ("p-decision-retries-250ms", "p-decision-retries-60s", first)
    deployed = [topic.name for topic in contract.deployed(settings.retry_delays_ms)]
    assert len(deployed) == len(set(deployed)) == len(ALL) - 1
    assert Names.of(Settings(retry_delays_ms=())).retries == ()


async def test_all_is_well_where_all_topics_are_as_they_must_be() -> None:
    admin: Any = Admin(ALL)
    await check(admin, Settings())
    assert await create(admin, Settings()) == []
    assert admin.created == []


async def test_what_is_missing_or_uneven_is_named() -> None:
    existing = {**ALL, "decision-outcomes": 3}
    del existing["control-flags"]
    admin: Any = Admin(existing)
    with pytest.raises(TopicProblem) as raised:
        await check(admin, Settings())
    assert "decision-outcomes: has 3 partitions, decision-requests has 4" in str(raised.value)
    assert "control-flags: missing" in str(raised.value)


async def test_missing_topics_are_created_as_even_as_requests_are() -> None:
    admin: Any = Admin({"p-decision-requests": 12})
    created = await create(admin, Settings(topic_prefix="p-", partitions=4, replication=3))
    assert set(created) == {f"p-{name}" for name in ALL} - {"p-decision-requests"}
    wanted = {each.name: each for each in admin.created}
    assert wanted["p-decision-outcomes"].num_partitions == 12
    assert wanted["p-control-flags"].num_partitions == 1
    assert {each.replication_factor for each in admin.created} == {3}
    assert wanted["p-control-flags"].topic_configs["cleanup.policy"] == "compact"
    assert wanted["p-decision-feedback"].topic_configs["retention.ms"] == str(90 * contract.DAY_MS)


async def test_another_who_was_quicker_is_no_problem_a_refusal_is() -> None:
    quicker: Any = Admin({}, {"decision-requests": 36})
    assert "decision-requests" not in await create(quicker, Settings())
    refused: Any = Admin({}, {"decision-requests": 17})
    with pytest.raises(TopicProblem, match="decision-requests"):
        await create(refused, Settings())


async def test_states_give_one_row_for_each_topic() -> None:
    admin: Any = Admin({})
    rows = await states(admin, Settings(partitions=6))
    assert [row.name for row in rows] == list(ALL)
    assert {row.wanted for row in rows if row.name != "control-flags"} == {6}
    assert topics.CONNECT_S > 0


async def test_what_was_created_is_waited_for_until_the_broker_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = iter([0, 0, 4])

    async def states(_admin: object, _settings: object) -> list[topics.TopicState]:
        return [topics.TopicState("decision-requests", next(shown), 4)]

    monkeypatch.setattr(topics, "states", states)
    await topics.appear(None, Settings())

    assert list(shown) == []
