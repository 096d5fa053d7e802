"""Which arm a request has: what it depends on, and that nothing else can move it."""

from __future__ import annotations

from itertools import cycle

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.split import even, sticky
from pointsman.schemas.request import DecisionRequest
from pointsman.streams.decisions.route import Counter, route
from pointsman.streams.decisions.validate import Accepted
from tests.builders import AT_MS, SEED, Score, Small, flag, record, request
from tests.unit.streams.decisions.decision_world import World

versions = st.integers(1, 2**63 - 1)
units = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
counters = st.none() | st.tuples(versions | st.integers(1, 3), st.integers(0, 10**9))


def accepted(unit: str | None, id_: str = "r1", agent: str = "small", offset: int = 0) -> Accepted:
    value = request(id_, agent=agent, unit=unit)
    raw = msgspec.json.encode(value)
    made = record(raw, offset=offset, timestamp=AT_MS + offset)
    return Accepted(made, msgspec.json.decode(raw, type=DecisionRequest), Small(), offset)


@given(
    unit=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    percentage=st.integers(0, 10_000).map(lambda points: points / 100),
    before=st.lists(units, max_size=4),
    after=st.lists(units, max_size=4),
    agent=st.sampled_from(["small", "other", "a-third"]),
    version=versions,
    partition=st.integers(0, 10_000),
    counter=counters,
    offset=st.integers(0, 10**12),
)
def test_of_all_that_comes_with_a_unit_only_seed_and_percentage_move_its_arm(
    unit: str,
    percentage: float,
    before: list[str | None],
    after: list[str | None],
    agent: str,
    version: int,
    partition: int,
    counter: Counter | None,
    offset: int,
) -> None:
    neighbours = [[accepted(each) for each in some] for some in (before, after)]
    one = accepted(unit, f"id-{offset}", agent, offset)
    arms, _ = route(
        [*neighbours[0], one, *neighbours[1]], flag(percentage, version, agent), partition, counter
    )
    assert arms[len(before)] is sticky(SEED, unit, percentage)


@given(
    some=st.lists(units, max_size=20),
    version=st.integers(1, 3),
    partition=st.integers(0, 100),
    counter=counters,
)
def test_what_has_no_unit_is_counted_and_what_has_one_is_not(
    some: list[str | None], version: int, partition: int, counter: Counter | None
) -> None:
    arms, after = route([accepted(unit) for unit in some], flag(20, version), partition, counter)
    count = counter[1] if counter and counter[0] == version else 0
    taken = [arm for arm, unit in zip(arms, some, strict=True) if unit is None]
    assert taken == [even(SEED, partition, count + n, 20) for n in range(len(taken))]
    assert after == (version, count + len(taken))


async def test_each_agent_has_a_count_of_its_own_also_after_a_restart() -> None:
    world = World(scorer=Score())
    shares = {"small": 20.0, "other": 50.0}
    for name, share in shares.items():
        world.flag(share, 1, name)  # of one version: the counts could be mistaken for one another
    for n, name in zip(range(200), cycle(["small", "other", "other"]), strict=False):
        world.broker.produce(msgspec.json.encode(request(f"r{n}", agent=name)), b"r%d" % n)
        if n == 100:
            await world.caught_up()
            await world.crash()
    await world.caught_up()
    await world.stop()
    for name, share in shares.items():
        arms = [each.arm == "candidate" for each in world.broker.outcomes() if each.agent == name]
        assert arms == [even(SEED, 0, n, share) for n in range(len(arms))], name
        assert len(arms) > 60
