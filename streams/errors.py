"""Errors of the streams layer.

PointsmanError
├── KafkaUnavailable       no broker answers (retriable)
├── TopicProblem           a topic is missing or has other partitions than it should
├── Fenced                 another worker has taken the partition over (retriable)
│   └── Expelled           the group has gone on without this worker (retriable)
├── PositionConflict       the stored position is not where the batch began (retriable)
└── WorkerNotRunning       a command needs a running worker and finds none
"""

from __future__ import annotations

from pointsman.schemas.errors import PointsmanError


class KafkaUnavailable(PointsmanError):
    """No broker answers at the bootstrap servers."""

    retriable = True


class TopicProblem(PointsmanError):
    """A topic is missing, or has another number of partitions than it must."""


class Fenced(PointsmanError):
    """Another worker owns the partition now; nothing of this batch was committed."""

    retriable = True


class Expelled(Fenced):
    """The group has gone on without this worker, which commits nothing before the next assignment."""


class PositionConflict(PointsmanError):
    """The stored position is not where this batch began: another owner went on in the meantime."""

    retriable = True


class WorkerNotRunning(PointsmanError):
    """No worker answers where one should."""
