"""The rules of documentation-keeper: a scorecard of 26 conditions, each worth a few points.

Half look at the change, the others at what is remembered of its repository.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Final, NamedTuple

from pointsman.models.agents.documentation_keeper.features import NAMES
from pointsman.models.agents.documentation_keeper.measure import NEEDED, NOT_NEEDED, THRESHOLD
from pointsman.models.confidence import judge, rounded
from pointsman.models.decider import Row
from pointsman.schemas.outcome import Answer

VERSION: Final = "2"


class Condition(NamedTuple):
    """Worth ``points`` where ``feature`` is above ``above`` (or, with ``below``, not above it)."""

    feature: str
    above: float
    points: int
    says: str
    below: bool = False


CONDITIONS: Final = (
    Condition("source_added", 19.5, 1, "20 or more lines of source added"),
    Condition("directories", 2.5, 1, "3 or more directories"),
    Condition("example_files", 0.5, 4, "sample programs changed"),
    Condition("config_files", 0.5, 3, "configuration or packaging changed"),
    Condition("test_added", 49.5, 1, "50 or more lines of tests added"),
    Condition("interface_files", 0.5, 1, "source that users meet changed"),
    Condition("subject_feature", 0.5, 3, "subject speaks of something new"),
    Condition("subject_setting", 0.5, 2, "subject speaks of a setting"),
    Condition("subject_change", 0.5, 1, "subject speaks of a rename, removal or replacement"),
    Condition("subject_release", 0.5, 1, "subject speaks of a release or an upgrade"),
    Condition("subject_fix", 0.5, -1, "subject speaks of a fix"),
    Condition("subject_upkeep", 0.5, -2, "subject speaks of upkeep"),
    Condition("paths_known", 0.5, 2, "at least half of these files have no past", below=True),
    Condition("path_highest", 1.5, 1, "one of these files often needed it"),
    Condition("path_highest", 0.75, -1, "none of these files needed it often", below=True),
    Condition("path_recent", 1.5, 2, "these files often needed it of late"),
    Condition("path_recent", 0.75, -2, "these files seldom needed it of late", below=True),
    Condition("directory_recent", 2.0, 4, "these directories often needed it of late"),
    Condition("directory_recent", 0.75, -1, "these directories seldom needed it of late", below=True),
    Condition("author_recent", 2.0, 6, "the author's last changes often needed it"),
    Condition("author_recent", 0.75, -2, "the author's last changes seldom needed it", below=True),
    Condition("word_rate", 1.5, 1, "subjects that begin like this often needed it"),
    Condition("word_rate", 0.75, -1, "subjects that begin like this seldom needed it", below=True),
    Condition("files_rate", 0.75, -1, "such sets of files seldom needed it here", below=True),
    Condition("past_recent", 0.4, 3, "much in this repository needed it of late"),
    Condition("past_recent", 0.15, -1, "little in this repository needed it of late", below=True),
)
"""Points are fifths of a log odd, from a logistic regression over the older 70 % of the training histories in which
both classes of every repository count alike (so that no condition stands for a repository), rounded; what was worth
nothing, and what pointed the other way than its words, was left out. Conditions of one feature exclude each other."""

SLOPE: Final = 0.2
INTERCEPT: Final = -1.73
"""Points to log odds of `NEEDED` at the share of which scores speak (`measure.THRESHOLD`), fitted to the same decisions; `train` notes in the card which line the
calibration part would give."""

ANSWERS_MAX: Final = 16_384
"""Sets of conditions whose answers are kept, some 10 MB; then they are made anew."""
_REASONS_MAX: Final = 3
_PLACES: Final = {condition.feature: NAMES.index(condition.feature) for condition in CONDITIONS}


class Rules:
    """Pure and fast: the conditions that hold select an answer that was made before."""

    name = "rules"
    version = VERSION

    def __init__(self) -> None:
        self._answers: dict[int, Answer] = {}  # one for each set of conditions
        self._tests = [
            (1 << i, _PLACES[condition.feature], condition.above, condition.below)
            for i, condition in enumerate(CONDITIONS)
        ]

    def decide(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer a row, in order."""
        answers = self._answers
        out = []
        for row in rows:
            holds = 0
            for bit, place, above, below in self._tests:
                if (row[place] > above) is not below:
                    holds |= bit
            answer = answers.get(holds)
            if answer is None:
                if len(answers) >= ANSWERS_MAX:
                    answers.clear()
                answer = answers[holds] = _answer(holds)
            out.append(answer)
        return out

    def explain(self, row: Row) -> Mapping[str, float]:
        """Feature name to the log odds that its condition adds, largest first; conditions that fail add nothing."""
        effects = {
            condition.feature: round(condition.points * SLOPE, 6)
            for condition in CONDITIONS
            if (row[_PLACES[condition.feature]] > condition.above) is not condition.below
        }
        return dict(sorted(effects.items(), key=lambda item: -abs(item[1])))


def points(rows: Sequence[Row]) -> list[int]:
    """The sum of points of each row: what `train` fits its line to."""
    return [
        sum(c.points for c in CONDITIONS if (row[_PLACES[c.feature]] > c.above) is not c.below)
        for row in rows
    ]


def _answer(holds: int) -> Answer:
    held = [condition for i, condition in enumerate(CONDITIONS) if holds >> i & 1]
    score = rounded(1 / (1 + exp(-(SLOPE * sum(c.points for c in held) + INTERCEPT))))
    needed, confidence = judge(score, THRESHOLD)
    return Answer(
        decider=f"rules@{VERSION}",
        prediction=NEEDED if needed else NOT_NEEDED,
        score=score,
        confidence=confidence,
        reason=_reason(held, needed=needed),
    )


def _reason(held: Sequence[Condition], *, needed: bool) -> str:
    """The weightiest conditions that speak for the answer."""
    sign = 1 if needed else -1
    speaking = sorted((c for c in held if c.points * sign > 0), key=lambda c: -abs(c.points))
    if speaking:
        return "; ".join(condition.says for condition in speaking[:_REASONS_MAX])
    return "a change of usual kind and size" if needed else "nothing that usually needs documentation"
