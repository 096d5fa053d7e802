"""Agents are found by listing folders, and what cannot be loaded says why."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pointsman.models import agents as built_in
from pointsman.models.registry import RESERVED, AgentError, load_agents

SOURCE = """
from collections.abc import Sequence
import msgspec
from pointsman.models.agent import Agent
from .parts import ANSWER, features

class Input(msgspec.Struct):
    a: float

class Rules:
    name = "rules"
    version = "1"
    def decide(self, rows): return [ANSWER for _ in rows]
    def explain(self, row): return {}

AGENT = Agent(name=NAME, input_type=Input, feature_names=("a",), feature_version="1", features=features,
              predictions=("no", "yes"), rules=Rules(), examples=({"a": 1},))
"""
PARTS = """
from pointsman.schemas.outcome import Answer
ANSWER = Answer(decider="rules@1", prediction="no", score=0.0, confidence=1.0)
def features(inputs): return [(one.a,) for one in inputs]
"""


def write(folder: Path, name: str = "greeter", source: str = SOURCE) -> Path:
    folder.mkdir(parents=True)
    (folder / "agent.py").write_text(source.replace("NAME", repr(name)))
    (folder / "parts.py").write_text(PARTS)
    return folder


def test_the_package_has_documentation_keeper() -> None:
    assert load_agents()["documentation-keeper"].flag == "ml-agent-rollout"


def test_a_folder_with_an_agent_is_loaded_with_its_relative_imports(tmp_path: Path) -> None:
    found = load_agents([write(tmp_path / "greeter")])
    assert set(found) == {"documentation-keeper", "greeter"}
    assert found["greeter"].features([found["greeter"].input_type(a=2.0)]) == [(2.0,)]
    assert "agent" not in sys.modules
    assert "parts" not in sys.modules


def test_a_folder_of_folders_gives_all_of_them(tmp_path: Path) -> None:
    write(tmp_path / "one", "first")
    write(tmp_path / "two", "second")
    (tmp_path / "no-agent").mkdir()
    assert {"first", "second"} <= set(load_agents([tmp_path]))


def test_two_folders_with_modules_of_one_name_stay_apart(tmp_path: Path) -> None:
    one = write(tmp_path / "x" / "same", "first")
    two = write(tmp_path / "y" / "same", "second")
    (two / "parts.py").write_text(PARTS.replace('"no"', '"yes"'))
    found = load_agents([one, two])
    assert found["first"].rules.decide([(1.0,)])[0].prediction == "no"
    assert found["second"].rules.decide([(1.0,)])[0].prediction == "yes"


def test_a_package_folder_may_have_an_init(tmp_path: Path) -> None:
    folder = write(tmp_path / "greeter")
    (folder / "__init__.py").write_text("from .agent import AGENT\n")
    assert "greeter" in load_agents([folder])


def test_a_new_folder_in_the_package_is_all_that_a_second_agent_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "second_agent", "second-agent")
    (folder / "__init__.py").write_text("from .agent import AGENT\n")
    monkeypatch.setattr(built_in, "__path__", [*built_in.__path__, str(tmp_path)])
    assert set(load_agents()) == {"documentation-keeper", "second-agent"}
    for name in [n for n in sys.modules if n.startswith(f"{built_in.__name__}.second_agent")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AgentError, match=f"'{name}' is reserved"):
        load_agents([write(tmp_path / "a", name)])


@pytest.mark.parametrize("name", ["", "Upper", "1st", "under_score", "a" * 64, "new\n"])
def test_a_name_that_requests_cannot_carry_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AgentError, match="is no agent name"):
        load_agents([write(tmp_path / "a", name)])


def test_two_agents_of_one_name_are_refused_with_both_places(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a"), write(tmp_path / "b")
    with pytest.raises(AgentError, match=f"{two}: an agent named 'greeter' was already loaded from {one}"):
        load_agents([one, two])
    with pytest.raises(
        AgentError, match=r"already loaded from pointsman\.models\.agents\.documentation_keeper"
    ):
        load_agents([write(tmp_path / "c", "documentation-keeper")])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "defines no AGENT"),
        ("AGENT = 3", "AGENT is a int"),
        ("import nowhere_to_be_found", "import failed: ModuleNotFoundError: .*nowhere_to_be_found"),
        ("def broken(", "import failed: SyntaxError"),
        ("raise ValueError('oh')", "import failed: ValueError: oh"),
    ],
)
def test_what_cannot_be_loaded_says_why_and_where(tmp_path: Path, source: str, says: str) -> None:
    folder = write(tmp_path / "bad", source=source)
    with pytest.raises(AgentError, match=f"{folder / 'agent.py'}|{folder}") as caught:
        load_agents([folder])
    assert re.search(says, str(caught.value))


def test_folders_without_agents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no such folder"):
        load_agents([tmp_path / "nowhere"])
    with pytest.raises(AgentError, match=r"holds neither agent\.py nor folders with one"):
        load_agents([tmp_path])


def test_a_folder_is_read_again_after_it_changed(tmp_path: Path) -> None:
    folder = write(tmp_path / "greeter", "before")
    assert "before" in load_agents([folder])
    (folder / "agent.py").write_text(SOURCE.replace("NAME", "'afterwards'"))
    assert "afterwards" in load_agents([folder])
