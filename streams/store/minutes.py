"""Outcomes folded into minutes: counts and integer sums that add up in any order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor
from typing import Final, TypeAlias

from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import Answer, Outcome
from pointsman.streams.store.copyrow import clean, micros

_MICROS_PER_MINUTE: Final = 60_000_000

Key: TypeAlias = tuple[str, int, str, int]
"""agent, minute (whole minutes since 2000-01-01 UTC), arm, shard (the request's partition)."""

COUNTERS: Final = (
    "decisions", "by_ml", "fallbacks", "failures", "validations", "escalations", "reviews",
    "both_answered", "agreements", "confidence_sum_e6", "latency_sum_us", "pending",
)  # fmt: skip
"""The counted columns of `decision_minute_shards`, in order. All but ``pending`` count final outcomes."""


BANDS: Final = 50
"""Of confidence, each 0.02 wide."""
SAID_LETTERS_MAX: Final = 100
"""Of a prediction, in a key: as long as a label may be."""


@dataclass(slots=True)
class Minutes:
    """What a batch adds to the tables of aggregates."""

    counters: dict[Key, list[int]] = field(default_factory=dict)
    fallbacks: dict[tuple[str, int, str, int, str], int] = field(default_factory=dict)
    latency: dict[tuple[str, int, str, int, int], int] = field(default_factory=dict)
    scores: dict[tuple[str, int, str, int, str, str], list[int]] = field(default_factory=dict)
    """By which answer (served, rules, ml) and what it said: how many, and the sum of their scores in millionths."""
    confidences: dict[tuple[str, int, str, int, int], int] = field(default_factory=dict)
    """By band of 0.02."""
    flags: dict[tuple[str, int, str, int, int, float], int] = field(default_factory=dict)
    """By the flag's version and percentage."""


def minute_of(moment: datetime) -> int:
    """Whole minutes since 2000-01-01 UTC."""
    return micros(moment) // _MICROS_PER_MINUTE


def fold(outcomes: Sequence[Outcome]) -> Minutes:
    """The aggregates of some outcomes."""
    minutes = Minutes()
    groups: dict[Key, list[Outcome]] = {}
    for outcome in outcomes:
        minute = minute_of(outcome.decided_at)
        key: Key = (outcome.agent, minute, outcome.arm, outcome.place.partition)
        group = groups.get(key)
        if group is None:
            groups[key] = [outcome]
        else:
            group.append(outcome)
    for key, group in groups.items():
        _fold_group(minutes, key, group)
    return minutes


def _fold_group(minutes: Minutes, key: Key, group: list[Outcome]) -> None:
    final = [outcome for outcome in group if outcome.status == "final"]
    twins = [(o.answers.rules, o.answers.ml) for o in final if o.answers.ml is not None]
    totals = [outcome.timings.total_ms for outcome in final]
    reasons = [outcome.fallback_reason for outcome in final if outcome.fallback_reason is not None]
    actions = [outcome.action for outcome in final]
    minutes.counters[key] = [
        len(final),
        sum(outcome.source == "ml" for outcome in final),
        len(reasons),
        sum(not outcome.success for outcome in final),
        actions.count("validate"),
        actions.count("escalate"),
        sum(outcome.needs_review for outcome in final),
        len(twins),
        sum(rules.prediction == ml.prediction for rules, ml in twins if ml is not None),
        sum(round(outcome.confidence * 1_000_000) for outcome in final),
        sum(round(total * 1_000) for total in totals),
        len(group) - len(final),
    ]
    for reason, n in Counter(reasons).items():
        minutes.fallbacks[*key, reason] = n
    for index, n in Counter(map(bucket, totals)).items():
        minutes.latency[*key, index] = n
    for index, n in Counter(confidence_band(outcome.confidence) for outcome in final).items():
        minutes.confidences[*key, index] = n
    for (version, percentage), n in Counter((o.flag.version, o.flag.percentage) for o in final).items():
        minutes.flags[*key, version, percentage] = n
    for outcome in final:
        rules, ml = outcome.answers.rules, outcome.answers.ml
        served = ml if outcome.source == "ml" and ml is not None else rules
        _score(minutes, key, "served", served)
        _score(minutes, key, "rules", rules)
        if ml is not None:
            _score(minutes, key, "ml", ml)


def confidence_band(confidence: float) -> int:
    """The band of 0.02 that a confidence lies in, 0 to 49."""
    return min(BANDS - 1, max(0, floor(confidence * BANDS + 1e-9)))


def _score(minutes: Minutes, key: Key, answer: str, given: Answer) -> None:
    cell = (*key, answer, clean(given.prediction)[:SAID_LETTERS_MAX])
    known = minutes.scores.get(cell)
    if known is None:
        known = minutes.scores[cell] = [0, 0]
    known[0] += 1
    known[1] += round(given.score * 1_000_000)
