"""A deployment for each test, on the session's servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kafka import Kafka
from tests.support.pipeline import Pipeline


@pytest.fixture
def pipeline(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> Iterator[Pipeline]:
    """Nothing runs yet, and there is no database: the test prepares it and starts its workers."""
    deployment = Pipeline(kafka.bootstrap, "", topic_prefix, tmp_path)
    yield deployment
    deployment.close()
