"""What a partition may hold: of whatever its records consist, and the less, the more partitions share the lane's memory."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize(
    "large",
    [
        {"value": b"x" * 900_000},
        {"value": b"", "key": b"x" * 900_000},
        {"value": None, "headers": [("h", b"x" * 900_000)]},
        {"value": None, "headers": [("h" * 900_000, None)]},
        {"value": b"x" * 300_000, "key": b"x" * 300_000, "headers": [("a", b"x" * 150_000), ("b", b"x" * 150_000)]},
        {"value": None, "headers": [("h", b"")] * 6_000},  # few letters, and a megabyte of objects
    ],
    ids=["value", "key", "header", "name", "all", "many"],
)  # fmt: skip
def test_keys_and_headers_are_bounded_in_bytes_as_values_are(large: dict[str, Any]) -> None:
    world = World(batch_records_max=1_000)
    world.loop.ready.set()
    buffered = 0
    while not world.source.calls:
        assert buffered < 10, "9 of these are 8 MB"
        world.loop.offer(TP, [record(**large, offset=buffered)])
        buffered += 1
    batches = []
    while taken := world.loop._take():
        batches.append(len(taken[TP]))
    assert (max(batches), sum(batches)) == (5, 10), "4 MiB, and the record that reaches them"
    assert world.loop._bytes == {TP: 0}
