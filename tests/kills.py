"""`python -m tests.kills`: workers that remember are killed, paused, joined and left; then all is compared with a quiet run.

The same requests and labels, with the same times, go to two deployments on a real broker. In one of them, each time at a
random moment under load, a worker is killed, or stands still while the other takes its partitions and then goes on, or one
more comes and another leaves; a local snapshot is damaged, and one is deleted. Afterwards outcomes, features and state of
both are equal byte for byte, but for what a clock fills; and equal to what training computes of them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointsman.models.state import Units
from tests.support.kafka import KafkaServer
from tests.support.pipeline import Pipeline
from tests.support.story import Burst, Replayed, Stage, replayed, story


def main() -> int:
    """0 if nothing differs, 1 if anything does."""
    options = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--most", type=int, default=3_000, help="records between two waits")
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with KafkaServer() as server, tempfile.TemporaryDirectory(prefix="pointsman-kills-") as folder:
        pipeline = Pipeline(server.bootstrap, "", f"kills-{given.seed}-", Path(folder))
        try:
            return asyncio.run(_told(pipeline, given))
        finally:
            pipeline.close()


async def _told(pipeline: Pipeline, given: argparse.Namespace) -> int:
    bursts = story(given.seed, 2 * given.kills, given.most)
    chosen = faults(given.seed, len(bursts), given.kills)
    stage, found = await lived_through(pipeline, bursts, chosen, given.seed)
    decided = sum(len(burst.lines) for burst in bursts if burst.asks)
    labels = sum(len(burst.lines) for burst in bursts if not burst.asks)
    restored = stage.logged("restored keyed state")
    by_snapshot = sum(line["from_snapshot"] > 0 for line in restored)
    print(f"{decided} decisions, {labels} labels; {dict(Counter(chosen.values()))}")
    print(f"{len(restored)} restores of a partition, {by_snapshot} of them by a local snapshot")
    print("\n".join(found) or "nothing differs")
    return 1 if found else 0


def faults(seed: int, bursts: int, kills: int) -> dict[int, str]:
    """By place of the burst: so many kills, a pause and a rebalance, never during the first burst."""
    chance = random.Random(seed)
    chosen = [*["kill"] * (kills - 2), "kill and damage", "kill and delete", "pause", "rebalance"]
    return dict(zip(chance.sample(range(1, bursts), len(chosen)), chosen, strict=True))


async def lived_through(
    pipeline: Pipeline, bursts: Sequence[Burst], chosen: dict[int, str], seed: int
) -> tuple[Stage, list[str]]:
    """Play with faults and without; the first stage, and what differs."""
    await pipeline.prepare()
    stage = Stage(pipeline, seed, workers=2)
    stage.play(bursts, chosen)
    calm = Pipeline(pipeline.bootstrap, "", f"{pipeline.prefix}calm-", pipeline.folder / "calm")
    calm.folder.mkdir()
    await calm.prepare()
    try:
        other = Stage(calm, seed)
        other.play(bursts, {})
        return stage, [*between(stage, other), *from_training(stage, replayed(bursts))]
    finally:
        calm.close()


def between(one: Stage, other: Stage) -> list[str]:
    """What differs between two deployments."""
    found = [
        f"outcomes of partition {number} differ: {_first(mine, theirs)}"
        for number, mine, theirs in _paired(one.outcomes(), other.outcomes())
        if mine != theirs
    ]
    found += [
        f"the changelog of partition {number} differs: {_first(sorted(mine.items()), sorted(theirs.items()))}"
        for number, mine, theirs in _paired(one.state(), other.state())
        if mine != theirs
    ]
    return found + [
        f"what a worker restores of partition {number} has another order"
        for number, mine, theirs in _paired(one.units(), other.units())
        if ordered(mine) != ordered(theirs)
    ]


def from_training(stage: Stage, expected: Replayed) -> list[str]:
    """What differs from a replay without Kafka."""
    found = []
    features = stage.features()
    if features.keys() != expected.features.keys():
        found.append(f"{len(features)} decisions, where training has {len(expected.features)}")
    wrong = [id_ for id_, row in features.items() if row != expected.features.get(id_)]
    if wrong:
        found.append(f"features of {len(wrong)} decisions differ from training's, as of {wrong[0]}")
    values = {unit: of for units in stage.units().values() for unit, of in units.values.items()}
    if values != expected.units.values:
        found.append("values differ from training's")
    return found


def ordered(units: Units) -> Any:
    """All that is kept, with its order."""
    return [(unit, list(of.items())) for unit, of in units.values.items()], list(units.notes.items())


def _paired(one: dict[int, Any], other: dict[int, Any]) -> list[tuple[int, Any, Any]]:
    return [(number, one.get(number), other.get(number)) for number in sorted({*one, *other})]


def _first(one: Sequence[Any] | None, other: Sequence[Any] | None) -> str:
    """The first that differs."""
    mine, theirs = list(one or ()), list(other or ())
    for place, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        if a != b:
            return f"at {place}: {a!r}, and {b!r}"
    return f"{len(mine)} records, and {len(theirs)}"


if __name__ == "__main__":
    sys.exit(main())
