"""Finds agents: those of the package by listing its folders, further ones in folders given by a setting."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

from pointsman.models import agents as built_in
from pointsman.models.agent import Agent
from pointsman.schemas.errors import PointsmanError

RESERVED: Final = frozenset(
    {"rollouts", "approvals", "agents", "reports", "incidents", "feedback", "flags", "shadow", "metrics"}
    | {"webhooks", "workflows"}
)
"""Words that stand at an agent's place in the paths of the HTTP interface."""
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
T = TypeVar("T")
_AGENT_FILE: Final = "agent.py"


class AgentError(PointsmanError):
    """An agent cannot be loaded; says which folder and why."""


def load_agents(folders: Sequence[Path] = ()) -> dict[str, Agent]:
    """All agents by name: the package's own, then those of ``folders`` in their order.

    A folder holds an ``agent.py``, or folders that do. Its modules are imported as a package of a private name,
    so that relative imports work and nothing else can be shadowed. Raises `AgentError`.
    """
    found: dict[str, Agent] = {}
    places: dict[str, str] = {}
    for place, module in _modules(folders):
        agent = _agent_of(module, place)
        _check_name(agent.name, place)
        if agent.name in found:
            msg = f"{place}: an agent named {agent.name!r} was already loaded from {places[agent.name]}"
            raise AgentError(msg)
        found[agent.name] = agent
        places[agent.name] = place
    return found


def _modules(folders: Sequence[Path]) -> Iterator[tuple[str, ModuleType]]:
    for info in pkgutil.iter_modules(built_in.__path__):
        if info.ispkg:
            name = f"{built_in.__name__}.{info.name}"
            yield name, _imported(name, name)
    for folder in folders:
        for single in _agent_folders(folder):
            yield str(single), _from_folder(single)


def _agent_folders(folder: Path) -> list[Path]:
    """The folder itself if it has an agent, else its sub-folders that have one."""
    if not folder.is_dir():
        msg = f"{folder}: no such folder"
        raise AgentError(msg)
    if (folder / _AGENT_FILE).is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob(f"*/{_AGENT_FILE}"))
    if not inside:
        msg = f"{folder}: holds neither {_AGENT_FILE} nor folders with one"
        raise AgentError(msg)
    return inside


def _from_folder(folder: Path) -> ModuleType:
    """The folder's ``agent`` module, within a package of its own that is named by the folder's path."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    package = f"_pointsman_agent_{digest}"
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]  # read again what may have changed since
    importlib.invalidate_caches()
    init = folder / "__init__.py"
    module = ModuleType(package)
    module.__path__ = [str(folder)]
    if init.is_file():
        spec = importlib.util.spec_from_file_location(package, init, submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        _run(partial(spec.loader.exec_module, module), str(init))
    sys.modules[package] = module
    return _imported(f"{package}.agent", str(folder / _AGENT_FILE))


def _imported(name: str, place: str) -> ModuleType:
    return _run(lambda: importlib.import_module(name), place)


def _run(action: Callable[[], T], place: str) -> T:
    """An agent's own code may raise anything at import: all of it means that this agent cannot be loaded."""
    try:
        return action()
    except PointsmanError as error:
        msg = f"{place}: {error}"
        raise AgentError(msg) from error
    except (Exception, SystemExit) as error:
        msg = f"{place}: import failed: {type(error).__name__}: {error}"
        raise AgentError(msg) from error


def _agent_of(module: ModuleType, place: str) -> Agent:
    agent = getattr(module, "AGENT", None)
    if agent is None:
        msg = f"{place}: defines no AGENT"
        raise AgentError(msg)
    if not isinstance(agent, Agent):
        msg = f"{place}: AGENT is a {type(agent).__name__}, expected pointsman.models.agent.Agent"
        raise AgentError(msg)
    return agent


def _check_name(name: str, place: str) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        msg = f"{place}: {name!r} is no agent name: lower-case letters, digits and hyphens, a letter first, at most 63"
        raise AgentError(msg)
    if name in RESERVED:
        msg = f"{place}: {name!r} is reserved for the HTTP interface, choose another name"
        raise AgentError(msg)
