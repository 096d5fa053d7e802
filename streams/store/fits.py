"""What of a batch the tables cannot hold: asked only when the database, or the packing of its rows, refused a batch.

Only Pointsman writes these messages, and its own always fit. One that somebody else wrote must not hold the
partition up for ever, and looking for it first would cost every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import msgspec

from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.summary import Summary
from pointsman.streams.store.batch import SinkBatch, Unfit, is_topic
from pointsman.streams.store.minutes import minute_of

MILLISECONDS_MAX: Final = 1e15
"""30,000 years, and a minute of them still adds up to a bigint of microseconds."""
SHARE_MAX: Final = 1e6
"""A confidence or a score is 1 at most; a minute of so wrong ones still adds up to a bigint of millionths."""
COUNT_MAX: Final = 2**31 - 1
KEY_BYTES_MAX: Final = 2_500
"""Of the texts in one row of an index, of which PostgreSQL holds 2,704 bytes."""
_features = msgspec.json.Decoder(dict[str, float])
T = TypeVar("T")


def fitting(batch: SinkBatch) -> tuple[SinkBatch, list[Unfit]]:
    """The batch without what the tables cannot hold, and what that was."""
    unfit: list[Unfit] = []
    traces = batch.trace_ids or [None] * len(batch.outcomes)
    pairs = _kept(list(zip(batch.outcomes, traces, strict=True)), lambda pair: outcome(pair[0]), unfit)
    kept = replace(
        batch,
        outcomes=[each for each, _ in pairs],
        trace_ids=[trace for _, trace in pairs],
        shadows=_kept(batch.shadows, shadow, unfit),
        summaries=_kept(batch.summaries, summary, unfit),
    )
    return kept, unfit


def _kept(given: Sequence[T], why_not: Callable[[T], str | None], unfit: list[Unfit]) -> list[T]:
    kept = []
    for each in given:
        why = why_not(each)
        if why is None:
            kept.append(each)
        else:
            message: Any = each[0] if isinstance(each, tuple) else each
            unfit.append(Unfit(getattr(message, "decision_id", getattr(message, "lane", "")), why))
    return kept


def outcome(given: Outcome) -> str | None:
    """Why an outcome does not fit, or None."""
    if abs(given.timings.total_ms) > MILLISECONDS_MAX:
        return f"timings.total_ms is {given.timings.total_ms:g}"
    if abs(minute_of(given.decided_at)) > COUNT_MAX:
        return f"decided_at is {given.decided_at}"
    if abs(given.confidence) > SHARE_MAX:
        return f"confidence is {given.confidence:g}"
    for answer in (given.answers.rules, given.answers.ml):
        if answer is not None and abs(answer.score) > SHARE_MAX:
            return f"score of {answer.decider[:100]} is {answer.score:g}"
    return (
        _key("agent and fallback_reason", given.agent, given.fallback_reason or "")
        or _key("decision_id", given.decision_id)
        or _topic(given.place.topic)
        or _object(bytes(given.features))
        or _history(given)
    )


def _history(given: Outcome) -> str | None:
    history = given.history
    if not history:
        return None
    if not (0 <= history.attempts <= COUNT_MAX and 0 <= history.redriven <= COUNT_MAX):
        return f"history counts {history.attempts} attempts and {history.redriven} redrives"
    places = [place for place in (history.taken_from, history.first_place) if place is not None]
    return next((why for place in places if (why := _topic(place.topic))), None)


def shadow(given: ShadowAnswer) -> str | None:
    """Why a shadow answer does not fit, or None."""
    return _key("decision_id and decider", given.decision_id, given.answer.decider) or _topic(
        given.place.topic
    )


def summary(given: Summary) -> str | None:
    """Why a ledger does not fit, or None."""
    if "\0" in given.lane:
        return "lane has a zero character"
    return _key("lane", given.lane) or (None if given.ledger is None else _topic(given.ledger.topic))


def _key(what: str, *texts: str) -> str | None:
    size = sum(len(text.encode()) for text in texts)
    return f"{what}: {size} bytes are no key" if size > KEY_BYTES_MAX else None


def _topic(name: str) -> str | None:
    return None if is_topic(name) else "topic is no name of a topic"


def _object(value: bytes) -> str | None:
    """Features: an object of numbers, as jsonb holds it."""
    try:
        found = _features.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"features are no object of numbers: {error}"
    return "a feature's name has a zero character" if any("\0" in name for name in found) else None
