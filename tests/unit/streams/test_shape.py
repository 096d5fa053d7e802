"""What counts as changed behind a lane's back, and what is only a broker that does not know yet."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from pointsman.streams import shape
from pointsman.streams.errors import TopicProblem
from pointsman.streams.shape import MISSED, Shape, TopicWatch, changed

WAS = Shape(4, "id-1")
NO_ADMIN: Any = None


class Broker:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics = {"a": WAS, "b": WAS}
        monkeypatch.setattr(shape, "shapes", self.shapes)

    async def shapes(self, _admin: Any, names: Any) -> dict[str, Shape]:
        return {name: self.topics.get(name, Shape(0)) for name in names}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (WAS, ""),
        (Shape(5, "id-1"), "had 4 partitions and has 5"),
        (Shape(4, "id-2"), "deleted and made anew"),
        (Shape(6, "id-2"), "deleted and made anew"),
        (Shape(0), "was deleted"),
        (Shape(3, "id-1"), ""),  # Kafka takes no partition away
        (Shape(4), ""),  # a broker that tells no ids, met during an upgrade of the cluster
    ],
)
def test_what_was_done_is_named(now: Shape, said: str) -> None:
    found = changed({"a": WAS}, {"a": now})
    assert (said in found) if said else found == ""
    assert not said or "restart every worker" in found


async def test_a_watch_sees_growth_at_once_and_a_missing_topic_after_several_looks(broker: Broker) -> None:
    watch = TopicWatch(["a", "b"])
    await watch.begin(NO_ADMIN)
    del broker.topics["b"]
    for _ in range(MISSED - 1):
        assert await watch.look(NO_ADMIN) == ""
    broker.topics["b"] = WAS  # it was there all the time
    assert await watch.look(NO_ADMIN) == ""
    del broker.topics["b"]
    looks = [await watch.look(NO_ADMIN) for _ in range(MISSED)]
    assert looks[:-1] == [""] * (MISSED - 1)
    assert "topic b was deleted" in looks[-1]
    broker.topics["a"] = Shape(5, "id-1")
    assert "topic a had 4" in await watch.look(NO_ADMIN)


async def test_nothing_begins_while_a_topic_is_not_as_it_was(broker: Broker) -> None:
    watch = TopicWatch(["a"])
    await watch.begin(NO_ADMIN)
    await watch.verify(NO_ADMIN)
    for harm in (Shape(0), Shape(5, "id-1"), Shape(4, "id-2")):
        broker.topics["a"] = harm
        with pytest.raises(TopicProblem):
            await watch.verify(NO_ADMIN)


async def test_a_lane_does_not_begin_without_its_topics(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape, "LOOK_S", 0)
    with pytest.raises(TopicProblem, match=r"topic c does not exist.*topics create"):
        await TopicWatch(["a", "c"]).begin(NO_ADMIN)


def test_ids_travel_as_they_are() -> None:
    id_ = shape.UUID("12345678-1234-5678-1234-567812345678")
    assert shape._Uuid.decode(BytesIO(shape._Uuid.encode(id_))) == id_
