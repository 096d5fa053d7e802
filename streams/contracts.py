"""All contracts with the agents' own: what ``schemas`` exports, and one JSON Schema for each agent's input.

``python -m pointsman.streams.contracts DIR`` writes them; further agents come by the setting ``agents``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pointsman.models.agent import Agent
from pointsman.models.registry import load_agents
from pointsman.schemas import export
from pointsman.streams.settings import load

INPUTS: Final = "inputs"


def inputs(agents: Mapping[str, Agent]) -> dict[str, dict[str, Any]]:
    """File name to the JSON Schema of what stands in ``input`` of a request to the agent."""
    return {
        f"{name}.json": export.json_schema(agents[name].input_type, f"input of a request to {name}")
        for name in sorted(agents)
    }


def main(arguments: list[str]) -> int:
    """Write everything into the folder that is named; 2 where none is."""
    if len(arguments) != 1:
        print("usage: python -m pointsman.streams.contracts DIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    agents = load_agents([Path(each) for each in load().settings.agents])
    for path in export.write(folder, export.documents()) + export.write(folder / INPUTS, inputs(agents)):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
