"""What became of a committed part of a batch, in metrics and in the log."""

from __future__ import annotations

import logging

from pointsman.streams import metrics
from pointsman.streams.decisions.draft import Part
from pointsman.streams.decisions.retry import Came
from pointsman.streams.decisions.trace import trace_id
from pointsman.streams.decisions.validate import Rejected

logger = logging.getLogger(__name__)


def note(part: Part) -> None:
    """Count it, and log each dead letter."""
    for agent, count in part.checked.duplicates.items():
        metrics.DUPLICATES.labels(agent).inc(count)
    for each in part.letters:
        metrics.DEAD_LETTERS.labels("decisions", each.error.reason).inc()
        logger.warning("dead letter", extra=_place(each, part.came_of(each.record)))
    for reason, attempt in part.again:
        metrics.RETRIES.labels(reason, attempt).inc()
    if part.again:
        extra = {"topic": part.tp.topic, "partition": part.tp.partition, "requests": len(part.again)}
        logger.info("to be tried again", extra=extra)
    if part.came and not part.waited:
        metrics.REDRIVEN.inc(len(part.came))
    if part.waited:
        _waited(part)


def _waited(part: Part) -> None:
    ends = {
        "outcome": len(part.decided.outcomes),
        "duplicate": sum(part.checked.duplicates.values()),
        "dead_letter": len(part.letters),
        "again": len(part.again),
    }
    for end, count in ends.items():
        metrics.RETRIED.labels(end).inc(count)


def _place(each: Rejected, came: Came) -> dict[str, object]:
    return {
        "request_id": each.request_id or None,
        "reason": each.error.reason,
        "field": each.error.field,
        "topic": each.record.topic,
        "partition": each.record.partition,
        "offset": each.record.offset,
        "attempt": came.attempt,
        "trace_id": trace_id(each.record.headers),
    }
