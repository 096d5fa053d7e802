"""Counters that alerts look at are there before anything is counted, and only those of the lanes that run."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from prometheus_client import REGISTRY
from pointsman.streams import zeroes
from pointsman.streams.settings import load
settings = load({{"lanes": {lanes!r}, "topic_prefix": "x-"}}, {{}}).settings
zeroes.begin(settings, ["writer"])
for family in REGISTRY.collect():
    for sample in family.samples:
        if sample.name.startswith("pointsman_") and sample.name.endswith("_total") and sample.labels:
            print(sample.name, sorted(sample.labels.items()), sample.value)
"""


def exported(lanes: list[str]) -> list[str]:
    """Of a process of its own: the registry is the process's."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(lanes=lanes)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


DECIDES = {
    "pointsman_feature_errors_total [('agent', 'writer')] 0.0",
    "pointsman_duplicates_total [('agent', 'writer')] 0.0",
    "pointsman_shadow_answers_total [('agent', 'writer')] 0.0",
    "pointsman_decisions_total [('agent', 'writer'), ('arm', 'candidate'), ('source', 'ml')] 0.0",
    "pointsman_decisions_total [('agent', 'writer'), ('arm', 'control'), ('source', 'deterministic')] 0.0",
    "pointsman_dead_letters_total [('lane', 'decisions'), ('reason', 'feature_error')] 0.0",
    "pointsman_lost_offsets_total [('topic', 'x-decision-requests')] 0.0",
    "pointsman_lost_offsets_total [('topic', 'x-decision-retries-5s')] 0.0",
    "pointsman_unreadable_batches_total [('reason', 'corrupt_batch'), ('topic', 'x-decision-requests')] 0.0",
    "pointsman_retries_total [('attempt', '2'), ('reason', 'unknown_agent')] 0.0",
    "pointsman_retries_total [('attempt', '4'), ('reason', 'try_later')] 0.0",
}
WRITES = {
    "pointsman_dead_letters_total [('lane', 'sink'), ('reason', 'wrong_type')] 0.0",
    "pointsman_foreign_messages_total [('topic', 'x-decision-outcomes')] 0.0",
    "pointsman_lost_offsets_total [('topic', 'x-decision-feedback')] 0.0",
    "pointsman_feedback_unsigned_total [('kind', 'critical_error')] 0.0",
}


@pytest.mark.parametrize(
    ("lanes", "there", "absent"), [(["decisions"], DECIDES, WRITES), (["sink"], WRITES, DECIDES)]
)
def test_a_worker_begins_its_own_counters_at_0(lanes: list[str], there: set[str], absent: set[str]) -> None:
    found = set(exported(lanes))
    assert there <= found
    assert not absent & found
    assert all(line.endswith(" 0.0") for line in found)


def test_there_is_no_fifth_attempt() -> None:
    assert not [line for line in exported(["decisions"]) if "('attempt', '5')" in line]
