"""Rows and live figures after topics have grown: the sink reads the new partitions too, and the tables begin with them."""

from __future__ import annotations

import pytest

from tests.support.commands import pointsman
from tests.support.pipeline import Pipeline, request, wait_for

ROWS = "SELECT count(*) FROM ml_learning.agent_decisions"


@pytest.mark.timeout(240)
async def test_the_sink_and_the_live_figures_go_on_with_more_partitions(pipeline: Pipeline) -> None:
    pipeline.options["partitions"] = "2"
    await pipeline.prepare()
    worker = pipeline.worker("decisions,sink,live").wait_ready()
    pipeline.send(request(number, unit=f"unit-{number}") for number in range(60))
    pipeline.wait_rows(ROWS, 60)
    wait_for(lambda: worker.report("health")["control_plane"], "live figures", detail=worker.tail)
    settings = {
        "kafka": pipeline.bootstrap,
        "topic_prefix": pipeline.prefix,
        "group": pipeline.settings.group,
    }
    refused = pointsman(settings, "topics", "grow", "--partitions", "3")
    assert refused.code == 1
    assert f"{pipeline.settings.group}-sink: " in refused.err
    assert "-control: " in refused.err
    worker.stop()
    done = pointsman(settings, "topics", "grow", "--partitions", "3", "--json")
    assert done.code == 0, done.err
    assert sum(name.endswith("-changelog") for name in done.json()["topics"]) == 2

    del pipeline.__dict__["_producer"]  # one that runs knows of the growth minutes later
    worker = pipeline.worker("decisions,sink,live").wait_ready()
    pipeline.send(request(number, unit=f"unit-{number}") for number in range(60, 160))
    pipeline.wait_rows(ROWS, 160)
    assert pipeline.rows(
        "SELECT count(DISTINCT partition), count(DISTINCT decision_id) FROM ml_learning.agent_decisions"
    ) == [(3, 160)]

    def seen() -> int:
        figures = worker.report("live") or {}
        hour = ((figures.get("documentation-keeper") or {}).get("control") or {}).get("last_hour") or {}
        return int(hour.get("decisions", 0))

    wait_for(lambda: seen() >= 100, "live figures of what came since", detail=worker.tail)
    wait_for(lambda: worker.report("health")["healthy"], "health", detail=worker.tail)
    pipeline.close()
    assert await pipeline.ledger_differences() == []
