"""Outcomes folded into minutes: counts and integer sums that add up in any order. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import Outcome
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
    for steps, n in Counter([int(outcome.confidence * BANDS + 1e-9) for outcome in final]).items():
        cell = (*key, min(BANDS - 1, max(0, steps)))
        minutes.confidences[cell] = minutes.confidences.get(cell, 0) + n
    for (version, percentage), n in Counter([(o.flag.version, o.flag.percentage) for o in final]).items():
        minutes.flags[*key, version, percentage] = n
    _add_scores(minutes, key, final)


def _add_scores(minutes: Minutes, key: Key, final: list[Outcome]) -> None:
    """The answers' scores by what was said; sorted first and added up at the end, for words are few."""
    served: dict[str, list[float]] = {}
    rules: dict[str, list[float]] = {}
    models: dict[str, list[float]] = {}
    for outcome in final:
        answers = outcome.answers
        by_rules, ml = answers.rules, answers.ml
        rules.setdefault(by_rules.prediction, []).append(by_rules.score)
        if ml is not None:
            models.setdefault(ml.prediction, []).append(ml.score)
        score = ml.score if ml is not None and outcome.source == "ml" else by_rules.score
        served.setdefault(outcome.prediction, []).append(score)
    for answer, by_words in (("served", served), ("rules", rules), ("ml", models)):
        for said, scores in by_words.items():
            known = minutes.scores.setdefault((*key, answer, clean(said)[:SAID_LETTERS_MAX]), [0, 0])
            known[0] += len(scores)
            known[1] += sum([round(score * 1_000_000) for score in scores])
