"""What is predicted, and what an error costs: shared by rules, model and evaluation."""

from __future__ import annotations

from typing import Final

from pointsman.models.evaluate import Costs

NOT_NEEDED: Final = "docs_not_needed"
NEEDED: Final = "docs_needed"
PREDICTIONS: Final = (NOT_NEEDED, NEEDED)

COSTS: Final = Costs(needless=1.0, missed=2.5)
"""A needless note is read and put away; a missed update misleads every reader until somebody finds it.
How many times dearer that is nobody measured. 2.5 is what makes decisions balanced: in the training
histories there are about 2.6 changes without documentation for each one with it, so that at this ratio
neither "always" nor "never" is an attractive answer."""

THRESHOLD: Final = round(COSTS.threshold, 6)
"""The probability of `NEEDED` from which on saying so costs less on average: 1 / (1 + 2.5)."""
