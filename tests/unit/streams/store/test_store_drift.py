"""Which decisions the drift watch counts, and where; the database is in `integration/store/test_drift.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from msgspec import Raw

from pointsman.models import drift
from pointsman.models.watch import Watched
from pointsman.schemas.outcome import Answers, Outcome
from pointsman.streams.drifts import Drifts
from pointsman.streams.store.drift import Drifted, Watch
from tests.support.outcomes import answer, outcome, shadow

AGENT = "documentation-keeper"
HOUR = int((datetime(2026, 11, 1, 12, tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) / timedelta(hours=1))
MATRIX = np.array([[files, added] for files in range(4) for added in (0.5, 10.5, 20.5)])
SCORES = np.linspace(0.1, 0.9, len(MATRIX))
REFERENCE = drift.reference(("files", "added"), MATRIX, SCORES)


def watched(**changes: Any) -> Watched:
    known = {"agent": AGENT, "model": "7", "feature_version": "2", "feature_names": ("files", "added")}
    return Watched(**{**known, "reference": REFERENCE, **changes})


WATCH = Watch([watched()], 100.0)
KEY = (AGENT, "7", watched().digest)


def scored(score: float, decider: str = "ml@7") -> Answers:
    return Answers(rules=answer(), ml=answer(decider, "none", score))


def split(counts: Any) -> list[tuple[int, ...]]:
    return drift.Grid(REFERENCE).split(counts.tolist())


def test_features_and_scores_are_counted_by_hour_and_partition_of_the_request() -> None:
    first = outcome(0, features=Raw(b'{"added": 10.5, "files": 3}'), answers=scored(0.9))
    unscored = outcome(1, features=Raw(b'{"added": 10.5, "files": 3}'))
    later = outcome(2, decided_at=first.decided_at + timedelta(hours=1))
    elsewhere = outcome(3, partition=5)
    found = WATCH.outcomes([first, unscored, later, elsewhere])
    assert sorted(found) == [(*KEY, HOUR, 0), (*KEY, HOUR, 5), (*KEY, HOUR + 1, 0)]
    files, added, scores = split(found[*KEY, HOUR, 0])
    assert files == (0, 0, 0, 2)
    assert added == (0, 2, 0)
    assert sum(scores) == 1
    assert scores[-1] == 1


def test_scores_that_came_later_are_counted_by_themselves() -> None:
    ((key, counts),) = WATCH.shadows([shadow(0, partition=3), shadow(1, partition=3)]).items()
    assert key == (*KEY, HOUR, 3)
    files, added, scores = split(counts)
    assert (sum(files), sum(added), sum(scores)) == (0, 0, 2)


@pytest.mark.parametrize(
    "other",
    [
        outcome(agent="another"),
        outcome(status="pending_approval", revision=0),
        outcome(
            versions=type(outcome().versions)(pointsman="1", features="3", rules="1"),
            answers=scored(0.5, "ml@8"),
        ),
        outcome(features=Raw(b'{"files":2}')),
        outcome(features=Raw(b'{"files":2,"added":"many"}')),
        outcome(features=Raw(b"[]")),
        outcome(features=Raw(b'{"files":2,"added":' + b"[" * 5_000)),
    ],
    ids=["agent", "pending", "versions", "missing", "text", "array", "deep"],
)
def test_what_is_not_of_this_model_is_not_counted(other: Outcome) -> None:
    assert WATCH.outcomes([other]) == {}


def test_another_models_later_answers_are_not_counted() -> None:
    assert WATCH.shadows([shadow(0, answer=answer("ml@8"))]) == {}
    assert WATCH.shadows([shadow(0, agent="another")]) == {}


def test_an_agent_of_one_feature_is_counted_too() -> None:
    one = watched(feature_names=("added",), reference=drift.reference(("added",), MATRIX[:, 1:], SCORES))
    (counts,) = Watch([one], 100.0).outcomes([outcome()]).values()
    assert counts.sum() == 1


def test_a_sample_depends_on_the_id_alone_and_is_as_large_as_asked_for() -> None:
    watch = Watch([watched()], 5.0)
    sampled = {n for n in range(20_000) if watch.sampled(f"d0-{n}")}
    assert 850 < len(sampled) < 1_150
    assert sampled == {n for n in range(20_000) if Watch([watched()], 5.0).sampled(f"d0-{n}")}
    assert sampled < {n for n in range(20_000) if Watch([watched()], 50.0).sampled(f"d0-{n}")}
    (counts,) = watch.outcomes([outcome(n, decided_at=outcome().decided_at) for n in range(20_000)]).values()
    assert sum(split(counts)[0]) == len(sampled)
    (counts,) = watch.shadows([shadow(n, answered_at=outcome().decided_at) for n in range(20_000)]).values()
    assert sum(split(counts)[-1]) == len(sampled)
    assert isinstance(watch.sampled("\ud800"), bool)


def test_without_a_sample_nothing_is_watched() -> None:
    assert WATCH
    assert not Watch([watched()], 0.0)
    assert Watch([watched()], 0.0).outcomes([outcome()]) == {}
    assert not Watch([], 100.0)


def test_references_of_one_version_are_told_apart() -> None:
    other = drift.reference(("files", "added"), MATRIX + 1, SCORES)
    assert watched().digest == watched(model="8").digest != watched(reference=other).digest


def test_metrics_show_no_effect_of_too_few() -> None:
    shown = Drifts()
    assert [list(family.samples) for family in shown.collect()] == [[], [], []]
    shown.show(
        [
            Drifted("a", drift.Drift("files", 900, 0.5, 0.001, "drifted")),
            Drifted("a", drift.Drift("added", 900, 0.1, 0.5, "stable")),
            Drifted("a", drift.Drift(drift.SCORE, 90, 0.7, 0.001, "too_few")),
        ]
    )
    found = {
        (each.name, each.labels["feature"]): each.value
        for family in shown.collect()
        for each in family.samples
    }
    assert found == {
        ("pointsman_drift_sampled", "files"): 900,
        ("pointsman_drift_sampled", "added"): 900,
        ("pointsman_drift_sampled", "ml_score"): 90,
        ("pointsman_drift_effect", "files"): 0.5,
        ("pointsman_drift_effect", "added"): 0.1,
        ("pointsman_drifted", "files"): 1,
        ("pointsman_drifted", "added"): 0,
    }
