"""The dashboards' figures once more, from the raw topics with pandas: plainly, and with no code of the aggregates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from pointsman.schemas.feedback import Feedback, kinds
from pointsman.schemas.outcome import Outcome, ShadowAnswer

Series = dict[str, list[tuple[float, float]]]
Z = 1.959964
POINTS = {
    "accepted": 4.0,
    "edited": 3.0,
    "ignored": 3.0,
    "reverted": 1.0,
    "correction": 2.0,
    "complaint": 1.0,
}
WEIGHT = {
    "rating": 1.0, "accepted": 0.25, "edited": 0.25, "ignored": 0.1, "reverted": 0.5, "correction": 0.5, "complaint": 1.0,
}  # fmt: skip
NEEDLESS, MISSED, POSITIVE = 0.4, 1.0, "docs_needed"
"""Costs as shares of the dearer one, as the card of documentation-keeper has them."""


class Recomputed:
    """One row a decision: what was decided, and what was told of it, the last of each kind."""

    def __init__(
        self,
        outcomes: Iterable[Outcome],
        shadows: Iterable[ShadowAnswer],
        events: Iterable[tuple[Feedback, bool]],
    ) -> None:
        """``events``: in the order of their arrival, and whether they were signed."""
        told: dict[str, dict[str, Any]] = {}
        for event, signed in events:
            for kind, value in kinds(event).items():
                if signed or kind not in ("critical_error", "safety_violation"):
                    told.setdefault(event.decision_id, {})[kind] = value
        later = {}
        for shadow in shadows:
            later.setdefault(shadow.decision_id, shadow.answer)
        self.all = pd.DataFrame([self._row(each, later, told) for each in outcomes])

    @staticmethod
    def _row(outcome: Outcome, later: dict[str, Any], told: dict[str, dict[str, Any]]) -> dict[str, Any]:
        ml = outcome.answers.ml
        shadow = None if ml is not None else later.get(outcome.decision_id)
        model = ml or shadow
        served = ml if outcome.source == "ml" else outcome.answers.rules
        assert served is not None
        asked = outcome.requested_at or outcome.decided_at
        known = told.get(outcome.decision_id, {})
        task = known.get("task_duration_s")
        if task is None and "task_completed_at" in known:
            task = max(0.0, math.floor((known["task_completed_at"] - asked).total_seconds() * 1000) / 1000)
        return {
            "time": pd.Timestamp(outcome.decided_at).floor("min"),
            "arm": outcome.arm,
            "source": outcome.source,
            "fallback": outcome.fallback_reason,
            "ms": outcome.timings.total_ms,
            "confidence": outcome.confidence,
            "said": outcome.prediction,
            "score": served.score,
            "rules": outcome.answers.rules.prediction,
            "model": model.prediction if model else None,
            "percentage": outcome.flag.percentage,
            "version": outcome.flag.version,
            "told": known,
            "label": known.get("label"),
            "task": task,
        }

    def _by(self, *names: str) -> Any:
        return self.all.groupby(list(names), sort=True)

    def series(self, name: str) -> Series:
        """The figures of a query of `panels.sql`."""
        made: Callable[[], list[tuple[Any, str, float]]] = getattr(self, f"_{name}")
        found: Series = {}
        for x, metric, value in sorted(made(), key=lambda each: (each[1], each[0])):
            at = x.timestamp() if isinstance(x, pd.Timestamp) else float(x)
            found.setdefault(metric, []).append((at, float(value)))
        return found

    def _decisions_by_source(self) -> list[tuple[Any, str, float]]:
        found = []
        for time, some in self._by("time"):
            model = (some.source == "ml").sum()
            fell = some.fallback.notna().sum()
            found += [
                (time[0], "model", model / 60),
                (time[0], "rules", (len(some) - model - fell) / 60),
                (time[0], "rules in the model's place", fell / 60),
            ]
        return found

    def _labelled(self) -> Any:
        return self.all[self.all.label.notna()].groupby(["time", "arm"], sort=True)

    def _accuracy(self) -> list[tuple[Any, str, float]]:
        return [
            each
            for (time, arm), some in self._labelled()
            for each in _around(time, arm, float((some.said == some.label).sum()), len(some))
        ]

    def _success(self) -> list[tuple[Any, str, float]]:
        return [
            each
            for (time, arm), some in self._labelled()
            for each in _around(time, arm, sum(map(_success_of, some.label, some.said)), len(some))
        ]

    def _success_until_now(self) -> list[tuple[Any, str, float]]:
        found = []
        for arm, some in self.all[self.all.label.notna()].groupby("arm"):
            for time in sorted(set(some.time)):
                upto = some[some.time <= time]
                found += _around(time, str(arm), sum(map(_success_of, upto.label, upto.said)), len(upto))
        return found

    def _labels_until_now(self) -> list[tuple[Any, str, float]]:
        found = []
        for arm, some in self.all[self.all.label.notna()].groupby("arm"):
            found += [(time, str(arm), (some.time <= time).sum()) for time in sorted(set(some.time))]
        return found

    def _expected_accuracy(self) -> list[tuple[Any, str, float]]:
        found = []
        for (time, arm), some in self._by("time", "arm"):
            sure = [
                score if said == POSITIVE else 1 - score
                for score, said in zip(some.score, some.said, strict=True)
            ]
            found.append((time, f"{arm} expected", sum(sure) / len(sure)))
        return found

    def _label_coverage(self) -> list[tuple[Any, str, float]]:
        return [(time[0], "labelled", some.label.notna().mean()) for time, some in self._by("time")]

    def _latency(self) -> list[tuple[Any, str, float]]:
        found = []
        for time, some in self._by("time"):
            ordered = sorted(some.ms)
            for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                found.append((time[0], name, ordered[max(1, math.ceil(q * len(ordered))) - 1]))
        return found

    def _satisfaction(self) -> list[tuple[Any, str, float]]:
        found = []
        for (time, arm), some in self._by("time", "arm"):
            points = weight = 0.0
            for told in some.told:
                if "rating" in told:
                    points, weight = points + told["rating"] * WEIGHT["rating"], weight + WEIGHT["rating"]
                for signal in (
                    told.get("signal"),
                    *(kind for kind in ("correction", "complaint") if kind in told),
                ):
                    if signal is not None:
                        points, weight = points + POINTS[signal] * WEIGHT[signal], weight + WEIGHT[signal]
            if weight:
                found.append((time, arm, points / weight))
        return found

    def _confidence(self) -> list[tuple[Any, str, float]]:
        found = []
        for arm, some in self.all.groupby("arm"):
            bands = some.confidence.map(lambda value: min(49, math.floor(value * 50 + 1e-9)))
            counts = bands.value_counts()
            found += [(band / 50, str(arm), count / len(some)) for band, count in counts.items()]
        return found

    def _fallbacks(self) -> list[tuple[Any, str, float]]:
        fell = self.all[self.all.fallback.notna()].groupby(["time", "fallback"])
        return [(time, f"fallback: {reason}", len(some) / 60) for (time, reason), some in fell]

    def _agreement(self) -> list[tuple[Any, str, float]]:
        both = self.all[self.all.model.notna()].groupby(["time", "arm"])
        return [(time, arm, (some.model == some.rules).mean()) for (time, arm), some in both]

    def _stage(self) -> list[tuple[Any, str, float]]:
        found = []
        for time, some in self._by("time"):
            found += [
                (time[0], "stage", some.percentage.max()),
                (time[0], "given to the candidate", 100 * (some.arm == "candidate").mean()),
            ]
        return found

    def _told(self, *names: str) -> list[tuple[Any, str, float]]:
        """Counts of kinds, of minutes and arms in which anything was told."""
        words = {"complaint": "complaints", "correction": "corrections"} | {
            "safety_violation": "safety violations",
            "critical_error": "critical errors",
        }
        found = []
        for (time, arm), some in self._by("time", "arm"):
            if any(some.told):
                found += [
                    (time, f"{arm}: {words[name]}", sum(name in told for told in some.told)) for name in names
                ]
        return found

    def _complaints(self) -> list[tuple[Any, str, float]]:
        return self._told("complaint", "correction")

    def _violations(self) -> list[tuple[Any, str, float]]:
        return self._told("safety_violation", "critical_error")

    def _completion_time(self) -> list[tuple[Any, str, float]]:
        done = self.all[self.all.task.notna()].groupby(["time", "arm"])
        return [(time, arm, some.task.mean()) for (time, arm), some in done]

    def _mean_of(self, kind: str) -> list[tuple[Any, str, float]]:
        found = []
        for (time, arm), some in self._by("time", "arm"):
            values = [told[kind] for told in some.told if kind in told]
            if values:
                found.append((time, arm, sum(values) / len(values)))
        return found

    def _tokens(self) -> list[tuple[Any, str, float]]:
        return self._mean_of("tokens")

    def _cost(self) -> list[tuple[Any, str, float]]:
        return self._mean_of("cost")

    def _tool_efficiency(self) -> list[tuple[Any, str, float]]:
        found = []
        for (time, arm), some in self._by("time", "arm"):
            whole = [told for told in some.told if {"tool_calls", "tool_calls_correct"} <= told.keys()]
            calls = sum(told["tool_calls"] for told in whole)
            if calls:
                found.append((time, arm, sum(told["tool_calls_correct"] for told in whole) / calls))
        return found


def _success_of(label: str, said: str) -> float:
    if label == said:
        return 1.0
    return 1 - NEEDLESS if said == POSITIVE else 1 - MISSED


def _around(time: Any, arm: str, right: float, n: int) -> list[tuple[Any, str, float]]:
    """A share with Wilson's interval."""
    p = right / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(max(0.0, p * (1 - p)) / n + Z * Z / (4 * n * n))
    return [
        (time, arm, p),
        (time, f"{arm} low", max(0.0, middle - half)),
        (time, f"{arm} high", min(1.0, middle + half)),
    ]
