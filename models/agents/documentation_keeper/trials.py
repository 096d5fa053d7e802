"""How good both arms are: on the newest decisions, on repositories left out, and what makes the difference.

Figures are means over repositories, so that a large one does not stand for all. Intervals draw landing units again
(time split: another sample of these repositories), or repositories and then landing units (left out: other repositories).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from pointsman.models import evaluate
from pointsman.models.agents.documentation_keeper.dataset import (
    CALIBRATES,
    TESTS,
    TRAINS,
    Bools,
    Dataset,
    Floats,
    Texts,
)
from pointsman.models.agents.documentation_keeper.features import NAMES
from pointsman.models.agents.documentation_keeper.measure import COSTS, NEEDED, THRESHOLD
from pointsman.models.agents.documentation_keeper.rules import Rules
from pointsman.models.artifact import Curves, HeldOut, Importance, LeftOut, TradeOff
from pointsman.models.evaluate import Costs
from pointsman.models.resample import MacroPair, macro_pair

FOLDS: Final = 5
SHUFFLES: Final = 5
"""How often a feature is mixed up; its loss is the mean."""
MISSED: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
"""What a missed update may cost, in needless ones."""

CLASS_MIN: Final = 10
"""Repositories with fewer decisions of either class are left out of means: one with a single positive would
say more by it than another by two hundred."""

Fit = Callable[[Dataset, Bools, Bools], Floats]
"""Data, what to train on, what to calibrate on; the scores of all decisions."""


def class_weights(data: Dataset, mask: Bools, share: float) -> Floats:
    """Every repository counts alike, and in each of them the positive class with ``share``.

    Repositories with fewer than `CLASS_MIN` of a class count nothing; where there are no others, all count alike.
    """
    truth, groups = data.truth[mask], data.repository[mask]
    found = np.zeros(len(truth))
    for name in _names(truth, groups):
        for of_class, part in (((groups == name) & truth, share), ((groups == name) & ~truth, 1 - share)):
            found[of_class] = part / of_class.sum()
    return found * (len(found) / found.sum()) if found.any() else np.ones(len(truth))


def by_rules(data: Dataset) -> tuple[Bools, Floats]:
    """What the rules say of every decision, and their scores."""
    answers = Rules().decide(data.rows)
    said = np.array([answer.prediction == NEEDED for answer in answers])
    return said, np.array([answer.score for answer in answers])


def held_out(data: Dataset, scores: Floats) -> HeldOut:
    """Both arms, and the two answers that look at nothing, on the newest decisions."""
    test = data.part == TESTS
    truth, groups = data.truth[test], data.repository[test]
    said, scored = (each[test] for each in by_rules(data))
    model = scores[test] >= THRESHOLD
    share = np.full(len(truth), float(data.truth[data.part == TRAINS].mean()))

    def quality(says: Bools, score: Floats) -> evaluate.Quality:
        return evaluate.quality(truth, says, score, COSTS, groups)

    return HeldOut(
        rules=quality(said, scored),
        ml=quality(model, scores[test]),
        ml_minus_rules=evaluate.paired_difference(truth, said, model, COSTS),
        always=quality(np.ones(len(truth), bool), share),
        never=quality(np.zeros(len(truth), bool), share),
    )


def macro(data: Dataset, scores: Floats, mask: Bools, **options: Any) -> MacroPair:
    """Both arms' balanced accuracy on some decisions, the rules' first."""
    said = (by_rules(data)[0][mask], scores[mask] >= THRESHOLD)
    return macro_pair(
        data.truth[mask], said, data.repository[mask], data.landing[mask], least=CLASS_MIN, **options
    )


def firsts(groups: Texts, landings: Texts) -> Bools:
    """The first decision of each landing: nothing can be known of its landing yet."""
    pairs = np.char.add(np.char.add(groups, " "), landings)
    found = np.zeros(len(pairs), bool)
    found[np.unique(pairs, return_index=True)[1]] = True
    return found


def curves(data: Dataset, scores: Floats) -> Curves:
    """Scores against the share that was positive, at the share of which scores speak; on the newest decisions."""
    test = data.part == TESTS
    weight = class_weights(data, test, THRESHOLD)
    rules = by_rules(data)[1]
    return Curves(*(_curve(data.truth[test], each[test], weight) for each in (rules, scores)))


def _curve(truth: Bools, scores: Floats, weight: Floats) -> list[evaluate.CalibrationBin]:
    bins = evaluate.CALIBRATION_BINS
    place = np.minimum((scores * bins).astype(int), bins - 1)
    place[weight == 0] = -1
    return [
        evaluate.CalibrationBin(
            i / bins,
            (i + 1) / bins,
            int(mask.sum()),
            round(float(np.average(scores[mask], weights=weight[mask])), 6),
            round(float(np.average(truth[mask], weights=weight[mask])), 6),
        )
        for i in range(bins)
        if (mask := place == i).any()
    ]


def left_out(data: Dataset, fit: Fit) -> LeftOut | None:
    """Each repository is asked about by a model that was trained and calibrated on others; None if there are too few.

    What such a model knows of the repository is the repository's own past, as in service.
    """
    names = sorted(set(data.repository.tolist()))
    if len(names) < 2 * FOLDS:
        return None
    fold = np.array([names.index(name) % FOLDS for name in data.repository.tolist()])
    scores = np.zeros(len(data.truth))
    for number in range(FOLDS):
        others = fold != number
        scores[~others] = fit(data, others & (data.part == TRAINS), others & (data.part == CALIBRATES))[
            ~others
        ]
    said, scored = by_rules(data)
    everything = np.ones(len(data.truth), bool)
    return LeftOut(
        folds=FOLDS,
        rules=evaluate.quality(data.truth, said, scored, COSTS, data.repository),
        ml=evaluate.quality(data.truth, scores >= THRESHOLD, scores, COSTS, data.repository),
        macro=macro(data, scores, everything, resampled="groups"),
        newest=macro(data, scores, data.part == TESTS, resampled="groups"),
    )


def importances(data: Dataset, score: Callable[[Floats], Floats], seed: int) -> list[Importance]:
    """Largest first. Values are mixed within each repository, so that none is known by a value that is its own."""
    test = np.flatnonzero(data.part == TESTS)
    truth, groups = data.truth[test], data.repository[test]
    matrix = data.matrix[test]
    random = np.random.default_rng(seed)
    usual = macro_value(truth, score(matrix) >= THRESHOLD, groups)
    places = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    found = []
    for column, name in enumerate(NAMES):
        losses = []
        for _ in range(SHUFFLES):
            mixed = matrix.copy()
            for mine in places:
                mixed[mine, column] = matrix[random.permutation(mine), column]
            losses.append(usual - macro_value(truth, score(mixed) >= THRESHOLD, groups))
        found.append(
            Importance(name, *(round(float(each), 5) for each in (np.mean(losses), min(losses), max(losses))))
        )
    return sorted(found, key=lambda each: (-each.loss, each.feature))


def trade_off(data: Dataset, scores: Floats, missed: Sequence[float] = MISSED) -> list[TradeOff]:
    """What other costs would make of the same scores, on the test part."""
    test = data.part == TESTS
    truth, groups, tested = data.truth[test], data.repository[test], scores[test]
    table = []
    for cost in missed:
        threshold = round(Costs(COSTS.needless, cost * COSTS.needless).threshold, 6)
        said = tested >= threshold
        names = _names(truth, groups)
        found = [said[(groups == name) & truth].mean() for name in names]
        table.append(
            TradeOff(
                missed=cost,
                threshold=threshold,
                said=round(float(np.mean([said[groups == name].mean() for name in names])), 4),
                found=round(float(np.mean(found)), 4),
                right=round(float(truth[said].mean()) if said.any() else 0.0, 4),
                balanced_accuracy=round(macro_value(truth, said, groups), 4),
            )
        )
    return table


def _names(truth: Bools, groups: Texts) -> list[str]:
    """Groups with enough of both classes."""
    found = np.unique(groups).tolist()
    return [n for n in found if min(truth[groups == n].sum(), (~truth[groups == n]).sum()) >= CLASS_MIN]


def macro_value(truth: Bools, said: Bools, groups: Texts) -> float:
    """Balanced accuracy as the mean over groups with enough of both classes; a half where there is none."""
    values = []
    for name in _names(truth, groups):
        mine = groups == name
        positives, negatives = truth[mine], ~truth[mine]
        values.append((said[mine][positives].mean() + (~said[mine][negatives]).mean()) / 2)
    return float(np.mean(values)) if values else 0.5
