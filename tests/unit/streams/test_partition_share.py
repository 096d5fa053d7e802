"""Partitions share the memory of their lane: the more there are, the less each holds."""

from __future__ import annotations

import pytest

from pointsman.streams import partition
from tests.builders import record
from tests.unit.streams.decisions.decision_world import TP, World


@pytest.mark.parametrize(("owned", "waits"), [(1, 4), (2, 4), (4, 2), (8, 1), (1_000, 1)])
def test_a_partition_holds_its_share_of_the_lanes_bytes(
    owned: int, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition, "BUFFER_BYTES", 400)
    monkeypatch.setattr(partition, "LANE_BYTES", 800)
    world = World(batch_records_max=1_000)
    world.loop._owned = lambda: owned
    world.loop.ready.set()
    for offset in range(waits):
        assert world.source.calls == []
        world.loop.offer(TP, [record(b"x" * 100, offset=offset)])
    assert world.source.calls == ["pause"]


def test_it_flows_again_once_the_share_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "BUFFER_BYTES", 400)
    monkeypatch.setattr(partition, "LANE_BYTES", 800)
    world = World(batch_records_max=1_000)
    world.loop._owned = lambda: 4
    world.loop.ready.set()
    world.loop.offer(TP, [record(b"x" * 100, offset=offset) for offset in range(2)])
    world.loop._take()
    assert world.source.calls == ["pause", "resume"]
