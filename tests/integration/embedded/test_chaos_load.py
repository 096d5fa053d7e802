"""The producer of the chaos runs' load: given up while its broker answers nothing, and not before."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from pointsman.streams.embedded.kafka import EmbeddedKafka
from pointsman.streams.topics import Names
from tests.chaos import load as module
from tests.chaos.load import Load
from tests.chaos.plan import Plan

PLAN = Plan(
    name="load",
    seed=5,
    layout="apart",
    partitions=2,
    rate=200,
    seconds=60.0,
    compression="none",
    faults=(),
)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_producer_that_hears_nothing_has_a_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names()
    with EmbeddedKafka(topics={names.requests: 2, names.feedback: 2}) as broker:
        load = Load(broker.bootstrap, names, PLAN)
        truth = load.truth
        load.start()
        until(lambda: any(each.acknowledged for each in truth.sent))
        assert truth.replaced == 0
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            monkeypatch.setattr(module, "STUCK_S", 0.2)
            until(lambda: truth.replaced > 0)
            monkeypatch.setattr(module, "STUCK_S", 60.0)
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        count = len(truth.sent)
        until(lambda: any(each.acknowledged for each in truth.sent[count:]))
        assert load.finish(30) == 0
    given_up = {int(each.partition(":")[0]) for each in truth.errors}
    assert given_up
    assert {each.seq for each in truth.sent if not each.acknowledged} == given_up
