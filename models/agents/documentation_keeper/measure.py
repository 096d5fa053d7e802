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
histories there are about 2.6 changes without documentation for each one with it. It holds in a repository like that; in
another it is as many needless notes as the repository has changes without documentation for each one with it, be that
one or fifty. With one cost for all, the answer would be "always" in some repositories and "never" in others."""

THRESHOLD: Final = round(COSTS.threshold, 6)
"""Of scores: 1 / (1 + 2.5). A score says how likely `NEEDED` is where that share of changes needs documentation, so
one threshold decides by the costs above in every repository, whatever its own share."""
