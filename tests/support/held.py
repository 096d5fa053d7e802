"""An agent for workers in tests that holds a batch in hand: whatever befalls the worker then befalls it in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.agents import write_agent
from tests.support.pipeline import Record, WorkerProcess, request, wait_for

_AGENT = '''
import os
import time
from pathlib import Path

SHUT = Path(__file__).with_name("shut")


class Input(Struct, frozen=True):
    pass


def features(inputs):
    """As long as the gate is shut the whole worker stands here, with all that its partitions have under way."""
    while SHUT.exists():
        SHUT.with_name(f"held-by-{os.getpid()}").touch()
        time.sleep(0.005)
    return [(1.0,)] * len(inputs)
'''


class Held:
    """The agent's folder, for the setting ``agents``, and its gate, which is open at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = write_agent(folder, "held", _AGENT)

    def shut(self) -> None:
        """From now on a worker that gets a request of this agent stands still in its batch."""
        (self.folder / "shut").touch()

    def wait(self, worker: WorkerProcess) -> None:
        """Until this worker does."""
        wait_for((self.folder / f"held-by-{worker.pid}").exists, "a batch in hand", detail=worker.tail)

    def open(self) -> None:
        """Whoever stands still goes on."""
        (self.folder / "shut").unlink()


def ask(number: int | str, **changes: Any) -> Record:
    """A request to it."""
    return request(number, agent="held", input={}, **changes)
