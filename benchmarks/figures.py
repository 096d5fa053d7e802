"""What is promised: the lines of the project's table with their bounds, and the results file that fills each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from benchmarks.result import Row


@dataclass(frozen=True)
class Line:
    """One line of the table: filled by the rows of its results file that have its two bounds."""

    file: str
    """Name of the results file without its ending."""
    says: str
    unit: str
    better: Literal["higher", "lower"]
    at_least: float
    aim: float

    def row(self, values: Sequence[float]) -> Row:
        """Measured values as this line's row."""
        return Row.of(self.says, self.unit, values, better=self.better, at_least=self.at_least, aim=self.aim)

    def of(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of its file's rows that belong to it; several where a figure is measured at several sizes."""
        return [row for row in rows if (row["at_least"], row["aim"]) == (self.at_least, self.aim)]


DECISIONS: Final = (
    "decisions a second, one worker process, all of the decision path but the sinks, exactly once"
)

OVER_BARE: Final = Line(
    "throughput",
    f"{DECISIONS}, over the usual bare aiokafka loop (`getmany`, `send` each, copies, at least once)",
    "×",
    "higher",
    1.0,
    1.2,
)
OVER_FAUST: Final = Line(
    "throughput", "the same over the same decision in plain Faust agents", "×", "higher", 15.0, 25.0
)
OVER_QUIX: Final = Line(
    "throughput", "the same over the same decision in Quix Streams, exactly once", "×", "higher", 6.0, 10.0
)
OVER_KAFKA_STREAMS: Final = Line(
    "throughput",
    "the same over the same rules in Kafka Streams (Java, hot, exactly_once_v2, one thread)",
    "×",
    "higher",
    0.4,
    0.8,
)
LOST_OR_DOUBLED: Final = Line(
    "chaos",
    "outcomes and counts lost or doubled by random kills of any process under load",
    "",
    "lower",
    0.0,
    0.0,
)
RATIOS: Final = {
    OVER_BARE: ("lane", "bare"),
    OVER_FAUST: ("lane", "faust"),
    OVER_QUIX: ("lane", "quix"),
    OVER_KAFKA_STREAMS: ("lane", "kafka_streams"),
}
"""Line of the throughput to the contenders whose rates it divides."""

LIKE_WITH_LIKE: Final = {
    "copies": (
        "lane_identity",
        ("bare", "confluent_identity", "quix_identity", "faust_identity", "kafka_streams_identity"),
    ),
    "rules only": ("lane_rules", ("confluent_rules", "quix_rules", "faust_rules", "kafka_streams")),
    "rules and model": ("lane", ("confluent", "quix", "quix_onnx", "faust", "faust_onnx")),
}
"""The same work on both sides, so that the framework's cost and the decision's can be told apart."""


def like_with_like(ours: str, theirs: str) -> str:
    """Name of that row."""
    return f"{ours} over {theirs}, the same work"


TABLE: Final = (
    *RATIOS,
    Line(
        "latency",
        "p99 from request to outcome at half of capacity, over the p99 of a bare loop with the same commit interval",
        "×",
        "lower",
        2.0,
        1.3,
    ),
    Line(
        "latency",
        "p99 from request to outcome of single requests on an idle system",
        "ms",
        "lower",
        50.0,
        20.0,
    ),
    Line(
        "sinks",
        "audit and aggregate sink: rows a second over raw binary COPY of the same rows",
        "×",
        "higher",
        0.5,
        0.8,
    ),
    Line(
        "growth",
        "growth: decisions a second at 64 partitions, 50 agents, 1,000,000 units over those at 4, 1, 1,000",
        "×",
        "higher",
        0.8,
        0.95,
    ),
    Line("memory", "memory of a worker over 1,000,000 decisions", "MB", "lower", 300.0, 200.0),
    LOST_OR_DOUBLED,
)
"""In the order in which they are shown."""
