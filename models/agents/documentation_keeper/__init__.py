"""documentation-keeper decides whether a change needs documentation."""

from pointsman.models.agents.documentation_keeper.agent import AGENT

__all__ = ["AGENT"]
