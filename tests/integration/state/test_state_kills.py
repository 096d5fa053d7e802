"""Keyed state survives whatever happens to workers: nothing tells afterwards that it happened.

This is a short form; `python -m tests.kills` is the long one.
"""

from __future__ import annotations

import pytest

from tests.kills import faults, from_training, lived_through
from tests.support.kafka import Kafka
from tests.support.pipeline import Pipeline
from tests.support.story import Stage, replayed, story


@pytest.mark.timeout(300)
async def test_after_kills_all_is_as_in_a_quiet_run(kafka: Kafka, pipeline: Pipeline) -> None:
    bursts = story(seed=3, bursts=8, most=600)
    stage, found = await lived_through(pipeline, bursts, faults(seed=5, bursts=8, kills=2), seed=11)
    assert found == []
    restored = stage.logged("restored keyed state")
    assert any(line["from_snapshot"] for line in restored), "no snapshot was used"
    assert max(stage.reached()) > 0


@pytest.mark.timeout(200)
async def test_where_records_come_again_labels_count_once(kafka: Kafka, pipeline: Pipeline) -> None:
    bursts = story(seed=4, bursts=6, most=400)
    await pipeline.prepare()
    stage = Stage(pipeline, seed=12, workers=2, delivery="at_least_once")
    stage.play(bursts, {1: "kill", 2: "kill", 3: "pause"})
    assert from_training(stage, replayed(bursts)) == []
