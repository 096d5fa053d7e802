"""The load generator and its observer against a real broker: what must not be missed is seen."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from benchmarks.load.deployment import deployed
from benchmarks.load.generator import Generator
from benchmarks.load.messages import request_id
from benchmarks.load.observer import Doubled
from benchmarks.load.phase import PATIENCE_S, Load, offer
from benchmarks.load.schedule import latencies
from tests.support.histories import line, write_lines
from tests.support.kafka import Kafka

RATE, COUNT = 200, 600
PAUSE_S = 1.0
"""A third of the time in which requests are due."""


def bare_process() -> int:
    (found,) = [
        child.pid
        for child in psutil.Process().children()
        if "benchmarks.load.bare" in " ".join(child.cmdline())
    ]
    return found


def test_a_pause_of_the_server_is_charged_to_every_request_due_in_it(kafka: Kafka, tmp_path: Path) -> None:
    load = Load(write_lines(tmp_path / "commits.jsonl", [line(number) for number in range(5)]))
    paused: list[float] = []

    def pause(pid: int, at_s: float) -> None:
        time.sleep(max(0.0, at_s - time.monotonic()))
        os.kill(pid, signal.SIGSTOP)
        paused.append(time.monotonic())
        time.sleep(PAUSE_S)
        paused.append(time.monotonic())
        os.kill(pid, signal.SIGCONT)

    with deployed(kafka.bootstrap, 2) as deployment, deployment.bare(), deployment.observer() as observer:
        offer(deployment, observer, load, rate=RATE, count=RATE)  # after these the loop has its partitions
        with Generator(load.offer(deployment, "paused00", RATE, COUNT)) as generator:
            schedule = generator.schedule
            thread = threading.Thread(target=pause, args=(bare_process(), schedule.start_s + 0.5))
            thread.start()
            seen = observer.collect("paused00", COUNT, until_s=schedule.end_s + PATIENCE_S)
            thread.join()
            kept = generator.finish()

    due = schedule.times()
    inside = (due > paused[0]) & (due < paused[1])
    assert kept.sent == COUNT, "the generator goes on, whatever is answered"
    assert inside.sum() >= RATE * PAUSE_S - 2
    assert (seen[inside] >= paused[1]).all()
    # Half of a third of all requests waited for longer than half of the pause.
    assert latencies(schedule, seen).p95 >= PAUSE_S * 1000 / 2


def test_a_second_outcome_of_a_request_ends_the_measurement(kafka: Kafka) -> None:
    with deployed(kafka.bootstrap, 1) as deployment, deployment.observer() as observer:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for number in (0, 1, 1):
            producer.produce(deployment.names.outcomes, b"{}", request_id("doubled0", number))
        assert producer.flush(30) == 0

        with pytest.raises(Doubled, match="request 1"):
            observer.collect("doubled0", 3, until_s=time.monotonic() + PATIENCE_S)
