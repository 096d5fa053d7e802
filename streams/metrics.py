"""Prometheus metrics. Labels are bounded: lane, agent, arm, reason; never an id."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

RECORDS = Counter("pointsman_records", "Records read and committed.", ["lane"])
COMMITS = Counter("pointsman_commits", "Batches committed.", ["lane"])
COMMIT_SECONDS = Histogram(
    "pointsman_batch_seconds",
    "A batch from its first record in hand to its commit.",
    ["lane"],
    buckets=_SECONDS,
)
RESTARTS = Counter("pointsman_partition_restarts", "Partitions begun anew after an error.", ["lane", "error"])
UNREADABLE = Counter(
    "pointsman_unreadable_batches",
    "Batches passed over: too large when decompressed, or not to be taken apart.",
    ["topic", "reason"],
)
LOST = Counter("pointsman_lost_offsets", "Offsets that retention took before they were read.", ["topic"])
PARTITIONS = Gauge("pointsman_partitions", "Partitions owned.", ["lane"])
LAG = Gauge(
    "pointsman_lag_records", "Records that are there and not done: not read yet, or under way.", ["lane"]
)
BUFFERED = Gauge("pointsman_buffered_records", "Records read and not yet worked on.", ["lane"])
WAITING = Gauge("pointsman_waiting_records", "Requests in delay topics that are not due yet.", ["lane"])
HALTED = Gauge(
    "pointsman_halted", "1 once a topic was deleted or grown: the lane waits for a person.", ["lane"]
)
HEALTHY = Gauge("pointsman_healthy", "1 while there is progress or nothing to do.", ["lane"])
BEHIND = Gauge("pointsman_behind", "1 while the lane makes progress on a backlog.", ["lane"])

DECISIONS = Counter("pointsman_decisions", "Decisions committed.", ["agent", "arm", "source"])
FALLBACKS = Counter("pointsman_fallbacks", "The rules answered in the model's place.", ["agent", "reason"])
FEATURE_ERRORS = Counter(
    "pointsman_feature_errors", "Requests whose features could not be computed.", ["agent"]
)
ESCALATIONS = Counter("pointsman_escalations", "Decisions that a person should look at.", ["agent"])
DEAD_LETTERS = Counter("pointsman_dead_letters", "Messages that broke their contract.", ["lane", "reason"])
RETRIES = Counter(
    "pointsman_retries",
    "Requests sent to a delay topic, by reason and attempt to come.",
    ["reason", "attempt"],
)
RETRIED = Counter("pointsman_retried", "Requests that came out of the delay topics, by their end.", ["end"])
REDRIVEN = Counter("pointsman_redriven", "Requests that came again from the dead letters.")
DUPLICATES = Counter("pointsman_duplicates", "Requests repeated with the same content.", ["agent"])
SHADOWS = Counter("pointsman_shadow_answers", "Model answers that were not served.", ["agent"])
SHADOWS_MISSED = Counter("pointsman_shadow_missed", "Shadow answers that never came.", ["agent", "reason"])
LEDGER = Gauge(
    "pointsman_ledger_differences",
    "Ranges of the last hour whose requests are not all accounted for; anything but 0 is an alarm.",
    ["lane"],
)
CONTROL_UP = Gauge("pointsman_control_plane_up", "1 while the live figures are kept; lanes go on without.")
FLAG = Gauge("pointsman_flag_percentage", "Share of the candidate, as this worker knows it.", ["flag"])
FLAG_VERSION = Gauge("pointsman_flag_version", "Version of the flag, as this worker knows it.", ["flag"])
FLAGS_CURRENT = Gauge("pointsman_flags_current", "1 while the flag topic can be followed.")
MODEL_UP = Gauge("pointsman_model_available", "1 while the model process answers for the agent.", ["agent"])
BREAKER = Gauge("pointsman_model_breaker_open", "1 while the model is left alone.", ["agent"])
MODEL_RESTARTS = Counter("pointsman_model_restarts", "Model processes that had to be started again.")
FOREIGN = Counter("pointsman_foreign_messages", "Messages on our own topics that are not ours.", ["topic"])
UNSIGNED = Counter(
    "pointsman_feedback_unsigned",
    "Violations and critical errors that were not signed by who may report them, and do not count.",
    ["kind"],
)
FEEDBACK_WAITING = Gauge(
    "pointsman_feedback_waiting", "Decisions that feedback speaks of and that are still looked for."
)
FEEDBACK_UNKNOWN = Gauge(
    "pointsman_feedback_unknown", "The same, given up after 90 days; counted if they come after all."
)
STATE_LABELS = Counter(
    "pointsman_state_labels",
    "Labels that agents with keyed state were told, by what became of it.",
    ["agent", "result"],
)
STATE_RESTORED = Counter("pointsman_state_restored", "Records of keyed state that were read back.")
STATE_NOTES = Gauge(
    "pointsman_state_notes",
    "Decisions whose labels an agent with keyed state can still learn from.",
    ["agent"],
)
SINK_DOUBLES = Counter("pointsman_sink_doubles", "Messages that the database had already.")
ROLLED_UP = Counter("pointsman_rolled_up", "Rows of minutes that were merged into their minute and hour.")
DATABASE_UP = Gauge("pointsman_database_up", "1 while the sink can write.")


class LaneMetrics:
    """The metrics of one lane, with its label bound once."""

    def __init__(self, lane: str) -> None:
        self.lane = lane
        self._records = RECORDS.labels(lane)
        self._commits = COMMITS.labels(lane)
        self._seconds = COMMIT_SECONDS.labels(lane)
        self.partitions = PARTITIONS.labels(lane)
        self.lag = LAG.labels(lane)
        self.buffered = BUFFERED.labels(lane)
        self.waiting = WAITING.labels(lane)
        self.healthy = HEALTHY.labels(lane)
        self.halted = HALTED.labels(lane)

    def committed(self, records: int, seconds: float) -> None:
        """A batch was committed."""
        self._records.inc(records)
        self._commits.inc()
        self._seconds.observe(seconds)

    def restarted(self, error: str) -> None:
        """A partition begins anew."""
        RESTARTS.labels(self.lane, error).inc()
