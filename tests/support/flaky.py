"""An agent for workers in tests: it can do its work only while a file is there, and says so in several ways."""

from __future__ import annotations

from pathlib import Path

from tests.support.agents import write_agent

_AGENT = '''
from pathlib import Path

from pointsman.models.agent import TryLater

GATE = Path(__file__).with_name("open")


class Input(Struct, frozen=True):
    how: str = "later"


def features(inputs):
    """``later`` asks for a later attempt, ``raise`` raises, ``never`` does so even when the gate is open."""
    rows = []
    for each in inputs:
        if each.how == "never":
            raise ValueError("never")
        if not GATE.exists():
            if each.how == "later":
                raise TryLater("the gate is closed")
            if each.how == "raise":
                raise RuntimeError("no gate")
        rows.append((1.0,))
    return rows
'''


class Flaky:
    """The agent's folder, for the setting ``agents``, and its gate."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_agent(folder, "flaky", _AGENT)

    def open(self) -> None:
        """From now on it can do its work."""
        (self.folder / "open").touch()

    def close(self) -> None:
        """From now on it cannot."""
        (self.folder / "open").unlink(missing_ok=True)
