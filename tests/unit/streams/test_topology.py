"""Which parts a worker has, and which guarantee it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from pointsman.models.registry import load_agents
from pointsman.schemas.errors import InvalidSetting
from pointsman.streams.commit import AtLeastOnce, Committer
from pointsman.streams.lane import Lane
from pointsman.streams.membership import Member
from pointsman.streams.settings import load
from pointsman.streams.shared import Shared
from pointsman.streams.topics import Names
from pointsman.streams.topology import Topology, build, exactly_once


@pytest.mark.parametrize(
    ("delivery", "embedded", "once"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("exactly_once", False, True),
        ("at_least_once", False, False),
    ],
)
def test_auto_is_exactly_once_wherever_the_broker_can(delivery: str, embedded: bool, once: bool) -> None:
    assert exactly_once(load({"delivery": delivery}, {}).settings, embedded) is once


def test_exactly_once_is_refused_where_it_would_not_be_true() -> None:
    with pytest.raises(InvalidSetting, match="delivery"):
        exactly_once(load({"delivery": "exactly_once"}, {}).settings, embedded=True)


def built(data_dir: Path, lanes: str, *, embedded: bool = False, **more: Any) -> Topology:
    given = {"lanes": lanes.split(","), "data_dir": str(data_dir), "partitions": 4, **more}
    settings = load(given, {}).settings
    names = Names(settings.topic_prefix)
    return build(
        settings,
        load_agents([]),
        servers="127.0.0.1:9",
        dsn="",
        cluster="c",
        embedded=embedded,
        scorer=None,
        partitions={names.requests: 6, names.dead_letters: 6, names.summaries: 6},
    )


async def committers(lane: Lane | None) -> list[Any]:
    """What the loops of two partitions would commit with; nothing is started."""
    assert lane is not None
    lane.together = lane._share(lane, Member("m", 3), [0, 3]) if lane._share else None
    made = []
    for number in (0, 3):
        _, committer = lane._factory(
            lane, number, tuple(TopicPartition(topic, number) for topic in lane.topics)
        )
        made.append(committer())
        await made[-1].close()
    await lane.consumer.stop()
    return made


@pytest.mark.parametrize(
    ("delivery", "embedded", "kind"),
    [
        ("auto", False, Shared),
        ("exactly_once", False, Shared),
        ("at_least_once", False, AtLeastOnce),
        ("auto", True, AtLeastOnce),
        ("at_least_once", True, AtLeastOnce),
    ],
)
async def test_a_worker_decides_in_transactions_wherever_it_says_so(
    delivery: str, embedded: bool, kind: type[Committer], tmp_path: Path
) -> None:
    made = await committers(built(tmp_path, "decisions", embedded=embedded, delivery=delivery).decisions)
    assert [type(each) for each in made] == [kind, kind]
    for each in made:
        if isinstance(each, Shared):
            together = each._together
            # Whoever owns its numbers next ends what was left open under these.
            ids = [f"pointsman-{Names().requests}-together-{number}" for number in (0, 3)]
            assert list(together._producers._ids) == ids
        else:
            assert each._producer._txn_manager.transactional_id is None


async def test_no_worker_begins_that_was_to_decide_exactly_once_and_cannot(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="delivery"):
        built(tmp_path, "decisions", embedded=True, delivery="exactly_once")


async def test_a_worker_without_live_figures_has_no_app_that_could_fail_for_want_of_a_topic(
    tmp_path: Path,
) -> None:
    parts = built(tmp_path, "decisions,sink")
    assert parts.control is None
    assert parts.decisions is not None and parts.sink is not None


async def test_tables_of_live_figures_have_as_many_partitions_as_the_summaries_really_have(
    tmp_path: Path,
) -> None:
    control = built(tmp_path, "live").control
    assert control is not None
    live = control._make()
    assert (live.partitions, live.app.conf.topic_partitions) == (6, 6)
    # else an app that asked for its topics while the broker went would be without partitions for five minutes
    assert live.app.conf.consumer_metadata_max_age_ms <= 10_000
