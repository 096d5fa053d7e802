"""The drift watch in real workers: what moved shows in rows and metrics, and a killed sink counts nothing twice."""

from __future__ import annotations

import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Raw

from pointsman.models import drift
from pointsman.models.agents.documentation_keeper import AGENT as KEEPER
from pointsman.models.artifact import load_card
from pointsman.schemas.outcome import Answers, Outcome, Versions
from tests.support.agents import write_agent
from tests.support.outcomes import answer, outcome
from tests.support.pipeline import EXAMPLES, Pipeline, WorkerProcess, wait_for

NAME = "drifting"
SOURCE = """
class Input(Struct):
    one: float = 0.0


def features(inputs):
    return [(each.one,) for each in inputs]
"""
MODEL = """
from dataclasses import replace
from pathlib import Path

AGENT = replace(AGENT, model=Path(__file__).parent / "model")
"""
DRAWN = np.random.default_rng(1)
N = 3_000


def watched_agent(folder: Path) -> Path:
    """An agent whose card has a reference; a sink reads nothing else of a model."""
    made = write_agent(folder, NAME, SOURCE)
    with (made / "agent.py").open("a") as file:
        file.write(MODEL)
    assert KEEPER.model is not None
    card = msgspec.structs.replace(
        load_card(KEEPER.model),
        agent=NAME,
        version="7",
        feature_names=("one",),
        feature_version="1",
        medians=(0.0,),
        reference=drift.reference(("one",), DRAWN.normal(0, 1, (9_000, 1)), DRAWN.beta(2, 5, 9_000)),
    )
    (made / "model").mkdir()
    (made / "model" / "card.json").write_bytes(msgspec.json.encode(card))
    return made


def decided() -> list[Outcome]:
    """Decisions of now in four partitions; their feature has moved and their scores have not."""
    features, scores = DRAWN.normal(1.5, 1, N).tolist(), DRAWN.beta(2, 5, N).tolist()
    return [
        outcome(
            number,
            partition=number % 4,
            agent=NAME,
            decided_at=datetime.now(UTC),
            features=Raw(msgspec.json.encode({"one": feature})),
            answers=Answers(rules=answer(), ml=answer("ml@7", "yes", round(score, 6))),
            versions=Versions(pointsman="1", features="1", rules="1"),
        )
        for number, (feature, score) in enumerate(zip(features, scores, strict=True))
    ]


def shown(worker: WorkerProcess) -> dict[str, float]:
    """Samples of the drift watch."""
    with urllib.request.urlopen(f"{worker.ops()}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("pointsman_drift")]
    return {name: float(value) for name, value in pairs}


async def test_a_feature_that_moved_is_said_by_a_sink_that_was_killed_in_between(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    agents = tmp_path / "agents"
    agents.mkdir()
    settings = {
        "agents": f"{watched_agent(agents)}:{EXAMPLES}",
        "drift_sample_percent": "100",
        "batch_records_max": "50",
    }
    await pipeline.prepare()
    outcomes = decided()
    first = pipeline.worker("sink", **settings).wait_ready()
    for number in range(4):
        own = [each for each in outcomes if each.place.partition == number]
        records = [(each.decision_id.encode(), msgspec.json.encode(each)) for each in own]
        pipeline.send(records, pipeline.names.outcomes, partition=number)
    pipeline.wait_rows("SELECT count(*) > 500 FROM ml_learning.agent_decisions", wanted=True)
    first.kill()

    pipeline.worker("sink", **settings).wait_ready()
    pipeline.wait_rows("SELECT count(*) FROM ml_learning.agent_decisions", N)
    # One that looks now, and not within a minute.
    last = pipeline.worker("sink", **settings).wait_ready()
    pipeline.wait_rows(
        f"SELECT string_agg(feature || ' ' || verdict, ', ' ORDER BY feature) FROM ml_learning.drift_now WHERE n = {N}",
        f"{drift.SCORE} stable, one drifted",
    )
    wait_for(lambda: bool(shown(last)), "metrics of drift", detail=last.tail)
    found = shown(last)
    assert found[f'pointsman_drifted{{agent="{NAME}",feature="one"}}'] == 1
    assert found[f'pointsman_drifted{{agent="{NAME}",feature="{drift.SCORE}"}}'] == 0
    assert found[f'pointsman_drift_effect{{agent="{NAME}",feature="one"}}'] > 1
    assert found[f'pointsman_drift_sampled{{agent="{NAME}",feature="one"}}'] == N
    (line,) = [line for line in last.lines() if line["event"].startswith("no drift watch")]
    assert "ticket-urgency" in line["agents"]
    assert NAME not in line["agents"]
