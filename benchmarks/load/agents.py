"""Agents by the dozen: documentation-keeper under other names, each with a model of its own, in a temporary folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pointsman.models.agents.documentation_keeper.agent import AGENT
from pointsman.models.artifact import CARD_FILE

SOURCE = '''"""documentation-keeper under another name."""

from dataclasses import replace
from pathlib import Path

from pointsman.models.agents.documentation_keeper.agent import AGENT as ORIGINAL

AGENT = replace(ORIGINAL, name="{name}", model=Path(__file__).parent / "model")
'''


def generate(folder: Path, count: int) -> tuple[str, ...]:
    """Write ``count`` agents below the folder; their names."""
    assert AGENT.model is not None
    card = json.loads((AGENT.model / CARD_FILE).read_text())
    names = tuple(f"bench-{number:03d}" for number in range(count))
    for name in names:
        model = folder / name / "model"
        model.mkdir(parents=True)
        (folder / name / "agent.py").write_text(SOURCE.format(name=name))
        (model / CARD_FILE).write_text(json.dumps(card | {"agent": name}))
        shutil.copy(AGENT.model / card["model_file"], model)
    return names
