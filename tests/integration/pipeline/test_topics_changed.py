"""A topic changed under running workers: one lane halts and says so, the others go on, and rows stay whole."""

from __future__ import annotations

import contextlib
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from tests.support.pipeline import Pipeline, account, request, wait_for

ROWS = "SELECT count(*) FROM ml_learning.agent_decisions"


async def test_a_grown_topic_halts_its_lane_and_no_other(pipeline: Pipeline) -> None:
    await pipeline.prepare()
    worker = pipeline.worker("decisions,sink").wait_ready()
    pipeline.send(request(number) for number in range(40))
    pipeline.wait_rows(ROWS, 40)
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    admin.create_partitions([NewPartitions(pipeline.names.requests, 6)])[pipeline.names.requests].result(30)

    def halted() -> dict[str, str]:
        lanes = worker.report("health")["lanes"]
        return {name: lane["halted"] for name, lane in lanes.items() if lane["halted"]}

    wait_for(halted, "the lane to halt", detail=worker.tail)
    (name, why), *others = halted().items()
    assert name == "decisions"
    assert not others
    assert "had 4 partitions and has 6" in why
    pipeline.send(request(number) for number in range(40, 60))
    health = worker.report("health")
    assert not health["healthy"]
    assert health["lanes"]["sink"]["healthy"]
    assert worker.alive(), "it waits for a person instead of starting again and again"
    outcomes = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 40)
    found = account((f"r-{number}" for number in range(40)), (each.key().decode() for each in outcomes))
    assert found.clean, f"nothing was decided since: {found}"


async def test_the_sink_reads_a_topic_made_anew_from_its_beginning(pipeline: Pipeline) -> None:
    """Its positions lie in the database, where no broker takes them away with the topic."""
    await pipeline.prepare()
    worker = pipeline.worker("decisions,sink").wait_ready()
    pipeline.send(request(number) for number in range(40))
    pipeline.wait_rows(ROWS, 40)
    outcomes = pipeline.names.outcomes
    admin = AdminClient({"bootstrap.servers": pipeline.bootstrap})
    admin.delete_topics([outcomes], operation_timeout=30)[outcomes].result(30)
    with contextlib.suppress(KafkaException):  # a client that asked for it may have made it come back already
        admin.create_topics([NewTopic(outcomes, 4, 1)], operation_timeout=30)[outcomes].result(30)
    wait_for(lambda: all_halted(worker.report("health")), "both lanes to halt", detail=worker.tail)
    worker.stop()

    pipeline.worker("decisions,sink").wait_ready()
    pipeline.send(request(number) for number in range(100, 300))  # more than lay there before
    pipeline.wait_rows(ROWS, 240)
    assert pipeline.rows("SELECT sum(next_offset) > 0 FROM ml_learning.sink_offsets") == [(True,)]


def all_halted(health: dict[str, dict[str, dict[str, str]]]) -> bool:
    return all("made anew" in lane["halted"] for lane in health["lanes"].values())


async def test_a_worker_that_stood_still_catches_up_without_loss_or_double(pipeline: Pipeline) -> None:
    """Frozen for longer than its session and its transactions live; then the lag is worked off in bounded memory."""
    await pipeline.prepare()
    worker = pipeline.worker("decisions,sink", transaction_deadline_ms="1000").wait_ready()
    pipeline.send(request(number) for number in range(500))
    pipeline.wait_rows(ROWS, 500)
    before = worker.peak_mib()
    with worker.frozen():
        frozen_at = time.monotonic()
        pipeline.send(request(number) for number in range(500, 20_000))
        # Longer than the session (6 s) and than the broker lets a transaction stand (twice its deadline).
        wait_for(lambda: time.monotonic() - frozen_at > 12, "the session to end")
    pipeline.wait_rows(ROWS, 20_000)
    found = pipeline.read(pipeline.names.outcomes, lambda found: len(found) >= 20_000)
    assert account((f"r-{number}" for number in range(20_000)), (each.key().decode() for each in found)).clean
    assert worker.peak_mib() - before < 200, "some 10 MB a partition are read ahead, and no more"
    wait_for(lambda: worker.report("health")["healthy"], "health", detail=worker.tail)
