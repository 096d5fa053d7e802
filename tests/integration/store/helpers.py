"""Short words for the store's tests."""

from typing import Any

import psycopg

from pointsman.schemas.outcome import Outcome
from pointsman.streams.store import SinkBatch

LANE, CLUSTER, OUTCOMES = "sink", "cluster-1", "decision-outcomes"


def batch(start: int, end: int, outcomes: list[Outcome] | None = None, **changes: Any) -> SinkBatch:
    defaults = {
        "lane": LANE,
        "cluster": CLUSTER,
        "topic": OUTCOMES,
        "partition": 0,
        "outcomes": outcomes or [],
    }
    return SinkBatch(start=start, end=end, **{**defaults, **changes})


def count(connection: psycopg.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM ml_learning.{table}".encode()).fetchone()[0])
