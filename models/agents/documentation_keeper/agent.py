"""documentation-keeper: does this change need documentation?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pointsman.models.agent import Agent
from pointsman.models.agents.documentation_keeper import features, memory
from pointsman.models.agents.documentation_keeper.measure import PREDICTIONS
from pointsman.models.agents.documentation_keeper.request import CodeChange
from pointsman.models.agents.documentation_keeper.rules import Rules

EXAMPLES: Final = (
    {
        "repository": "example/shop",
        "subject": "Add option --currency to the export command",
        "files": [
            {"path": "src/shop/cli/export.py", "added": 41, "removed": 3},
            {"path": "src/shop/money.py", "added": 88, "status": "A"},
            {"path": "tests/test_export.py", "added": 60, "removed": 1},
            {"path": "pyproject.toml", "added": 1},
        ],
        "body_lines": 6,
        "authored_at": "2026-03-02T09:30:00Z",
    },
    {
        "repository": "example/shop",
        "subject": "Fix rounding of totals in internal ledger",
        "files": [
            {"path": "src/shop/_internal/ledger.py", "added": 2, "removed": 2},
            {"path": "tests/test_ledger.py", "added": 12},
        ],
    },
    {
        "repository": "example/shop",
        "subject": "Rename Basket to Cart",
        "files": [
            {
                "path": "src/shop/cart.py",
                "previous": "src/shop/basket.py",
                "status": "R",
                "added": 9,
                "removed": 9,
            },
            {"path": "src/shop/__init__.py", "added": 1, "removed": 1},
            {"path": "web/logo.png", "status": "D", "binary": True},
        ],
        "author": "a1b2c3d4",
        "authored_at": "2026-03-03T16:00:00+01:00",
    },
)


def train(commits: Path, out: Path, **options: Any) -> Any:
    """See `train.train`; imported when called, since it needs scikit-learn."""
    from pointsman.models.agents.documentation_keeper.train import train as recipe  # noqa: PLC0415

    return recipe(commits, out, **options)


AGENT: Final = Agent(
    name="documentation-keeper",
    input_type=CodeChange,
    feature_names=features.NAMES,
    feature_version=features.VERSION,
    features=features.features,
    predictions=PREDICTIONS,
    rules=Rules(),
    state=memory.STATE,
    model=Path(__file__).parent / "model",
    flag="ml-agent-rollout",
    type="ANALYSIS",
    policy="AUTO",
    capabilities=("code-change",),
    examples=EXAMPLES,
    train=train,
)
