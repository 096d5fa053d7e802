"""What is predicted, and what an error costs: shared by rules, model and evaluation."""

from __future__ import annotations

from typing import Final

from pointsman.models.evaluate import Costs

NOT_NEEDED: Final = "docs_not_needed"
NEEDED: Final = "docs_needed"
PREDICTIONS: Final = (NOT_NEEDED, NEEDED)

COSTS: Final = Costs(needless=1.0, missed=2.5)
"""What an error costs on average, for figures over all repositories: there are about 2.6 changes without documentation
for each one with it in the training histories. A needless note is read and put away; a missed update misleads every
reader until somebody finds it. How many times dearer that is nobody measured."""

THRESHOLD: Final = 0.5
"""Of scores, which say how likely `NEEDED` is where both answers are equally frequent. So a missed update costs as
many needless notes as the repository has changes without documentation for each one with it: 50 where one in 51 needs
it, one where every second does. With one cost for all, the answer would be "never" in the first kind of repository
and "always" in the second. `COSTS` is the mean of this."""
