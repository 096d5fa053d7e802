"""Agents for workers in tests: of each only the input and the features are its own."""

from __future__ import annotations

from pathlib import Path

_REST = """

class Rules:
    name = "rules"
    version = "1"

    def decide(self, rows):
        return [Answer(decider="rules@1", prediction="yes", score=0.9, confidence=0.9, reason="r") for _ in rows]

    def explain(self, row):
        return {"one": row[0]}


AGENT = Agent(
    name="NAME",
    input_type=Input,
    feature_names=("one",),
    feature_version="1",
    features=features,
    predictions=("no", "yes"),
    rules=Rules(),
)
"""


def write_agent(folder: Path, name: str, source: str) -> Path:
    """The folder of a new agent, for the setting ``agents``; ``source`` has its `Input` and its `features`."""
    made = folder / name
    made.mkdir()
    head = "from msgspec import Struct\n\nfrom pointsman.models.agent import Agent\nfrom pointsman.schemas.outcome import Answer\n"
    (made / "agent.py").write_text(head + source + _REST.replace("NAME", name))
    return made
