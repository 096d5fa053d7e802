"""The operations port: all metrics, or those that are asked for."""

from __future__ import annotations

import asyncio
import urllib.request

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from pointsman.streams.ops import Ops


class World:
    """An operations port with two metrics, one of them costly."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.costly = 0
        Counter("decisions", "Made.", ["agent"], registry=self.registry).labels("small").inc(3)
        lag = Gauge("lag", "Behind.", registry=self.registry)
        lag.set_function(self.count)

    def count(self) -> float:
        self.costly += 1
        return 7.0

    async def samples(self, query: str = "") -> dict[str, float]:
        """By name, from a port that serves for so long."""
        ops = Ops(host="127.0.0.1", port=0, health=dict, registry=self.registry)
        await ops.start()
        try:
            text = await asyncio.to_thread(get, f"http://127.0.0.1:{ops.port}/metrics{query}")
        finally:
            await ops.stop()
        found = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return {sample.name: sample.value for sample in found if not sample.name.endswith("_created")}


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


async def test_all_metrics_are_there() -> None:
    assert await World().samples() == {"decisions_total": 3.0, "lag": 7.0}


async def test_only_what_is_asked_for_is_looked_at() -> None:
    world = World()
    assert await world.samples("?name[]=decisions_total") == {"decisions_total": 3.0}
    assert world.costly == 0
    assert await world.samples("?name[]=lag&name[]=decisions_total") == {"decisions_total": 3.0, "lag": 7.0}
    assert await world.samples("?name[]=nothing") == {}
