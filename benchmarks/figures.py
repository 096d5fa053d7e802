"""What is promised: the figures of the project's table, their bounds, and the results file that fills each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.result import Row


@dataclass(frozen=True)
class Figure:
    """One line of the table. A benchmark's row fills it by having its ``what``."""

    file: str
    """Name of the results file without its ending."""
    what: str
    unit: str
    better: Literal["higher", "lower"]
    at_least: float
    aim: float

    def row(self, values: Sequence[float]) -> Row:
        """Measured values as this figure's row."""
        bounds = {"at_least": self.at_least, "aim": self.aim}
        return Row.of(self.what, self.unit, values, better=self.better, **bounds)


DECISIONS: Final = "decisions a second, one worker process, the whole decision path, exactly once"

OVER_BARE: Final = Figure(
    "throughput",
    f"{DECISIONS}, over the usual bare aiokafka loop (`getmany`, `send` each, copies, at least once)",
    "×",
    "higher",
    1.0,
    1.2,
)
OVER_FAUST: Final = Figure(
    "throughput", "the same over the same decision in plain Faust agents", "×", "higher", 15.0, 25.0
)
OVER_QUIX: Final = Figure(
    "throughput", "the same over the same decision in Quix Streams, exactly once", "×", "higher", 6.0, 10.0
)
OVER_KAFKA_STREAMS: Final = Figure(
    "throughput",
    "the same over the same rules in Kafka Streams (Java, hot, exactly_once_v2, one thread)",
    "×",
    "higher",
    0.4,
    0.8,
)
THROUGHPUT: Final = {
    OVER_BARE: ("lane", "bare"),
    OVER_FAUST: ("lane", "faust"),
    OVER_QUIX: ("lane", "quix"),
    OVER_KAFKA_STREAMS: ("lane", "kafka_streams"),
}
"""Figure to the contenders whose rates it divides."""
