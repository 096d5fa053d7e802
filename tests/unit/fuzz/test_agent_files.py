"""An agent's file is a program: it is not changed at random, but every odd one that is kept is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.models.registry import AgentError, load_agents
from tests.fuzz.corpus import kept

FILES = kept("agent")


def folder(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "agent.py").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in FILES if name != "plain"])
def test_an_odd_agent_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    place = folder(tmp_path, FILES[name])
    for _ in range(2):  # and alike again
        with pytest.raises(AgentError, match=str(tmp_path)):
            load_agents([place])


def test_an_ordinary_agent_is_loaded(tmp_path: Path) -> None:
    assert "corpus" in load_agents([folder(tmp_path, FILES["plain"])])
