"""`agents`, `train` and `version`: what can decide here, and how it came to be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.streams.cli.failure import FAILED, Usage
from pointsman.streams.cli.options import with_settings
from pointsman.streams.cli.out import AsJson, console, note, print_json, table
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.models.agent import Agent

agents = typer.Typer(
    help="The agents that are loaded, and whether they keep what every agent must.", no_args_is_help=True
)


def loaded_agents(settings: Settings) -> dict[str, Agent]:
    """All agents of the settings by name. Raises `AgentError`."""
    from pointsman.models.registry import load_agents  # noqa: PLC0415

    return load_agents([Path(folder) for folder in settings.agents])


def one(settings: Settings, name: str) -> Agent:
    """One agent. Raises `Usage` that names those there are."""
    found = loaded_agents(settings)
    if name not in found:
        msg = f"no agent {name!r}; there are: {', '.join(sorted(found))}"
        raise Usage(msg)
    return found[name]


@agents.command("list")
@with_settings("agents")
def list_agents(loaded: Loaded, *, as_json: AsJson = False) -> None:
    """List the agents: the package's own and those of the setting `agents`.

    Example:  pointsman agents list --agents examples/agents
    """
    rows = [_row(agent) for agent in loaded_agents(loaded.settings).values()]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "features", "rules", "model", "flag", "policy")
    console().print(table("", columns, [[row[column] for column in columns] for row in rows]))


def _row(agent: Agent) -> dict[str, Any]:
    from pointsman.models.artifact import ModelArtifactError, load_card  # noqa: PLC0415
    from pointsman.models.decider import decider_id  # noqa: PLC0415

    model = None
    if agent.model is not None:
        try:
            model = f"ml@{load_card(agent.model).version}"
        except ModelArtifactError as error:
            model = f"broken: {error.problem}"
    return {
        "name": agent.name,
        "features": len(agent.feature_names),
        "feature_version": agent.feature_version,
        "rules": decider_id(agent.rules),
        "model": model,
        "flag": agent.flag,
        "policy": agent.policy,
        "type": agent.type,
        "capabilities": list(agent.capabilities),
        "predictions": list(agent.predictions),
        "bands": {"act": agent.bands.act, "validate": agent.bands.validate},
    }


@agents.command("check")
@with_settings("agents")
def check(
    loaded: Loaded,
    *,
    name: Annotated[str | None, typer.Argument(help="One agent; default: all.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Run each agent on its examples and name every promise that it breaks; exit 1 if there is one.

    Example:  pointsman agents check ticket-urgency --agents examples/agents
    """
    from pointsman.models.conformance import check as conforms  # noqa: PLC0415

    wanted = {name: one(loaded.settings, name)} if name else loaded_agents(loaded.settings)
    problems = {each: conforms(agent) for each, agent in wanted.items()}
    if as_json:
        print_json(problems)
    else:
        for each, found in problems.items():
            console().print(f"{each}: {'conforms' if not found else f'{len(found)} problems'}", markup=False)
            for problem in found:
                console().print(f"  • {problem}", markup=False)
    if any(problems.values()):
        raise typer.Exit(FAILED)


@with_settings("agents")
def train(
    loaded: Loaded,
    *,
    agent: Annotated[str, typer.Argument(help="Name of the agent, as in `pointsman agents list`.")],
    commits: Annotated[
        Path, typer.Option(help="What to learn from: for documentation-keeper a file of commits.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model and its card.")],
    as_json: AsJson = False,
) -> None:
    """Train an agent's model by its own recipe and write it, with a card that says how good it is.

    Example:  pointsman train documentation-keeper --commits commits.jsonl.gz --out model
    """
    wanted = one(loaded.settings, agent)
    if wanted.train is None:
        msg = f"{agent} has no training recipe: its AGENT says no `train`"
        raise Usage(msg)
    if not commits.is_file():
        msg = f"--commits {commits}: no such file"
        raise Usage(msg)
    card = wanted.train(commits, out, progress=note)
    if as_json:
        print_json(card)
        return
    held = card.metrics
    rows = [
        (name, *(f"{100 * e.value:.1f} % ({100 * e.low:.1f}–{100 * e.high:.1f})" for e in pair))
        for name, pair in (
            ("accuracy", (held.rules.accuracy, held.ml.accuracy)),
            ("balanced accuracy", (held.rules.balanced_accuracy, held.ml.balanced_accuracy)),
            ("success", (held.rules.success, held.ml.success)),
        )
    ]
    title = f"ml@{card.version} on the newest {held.ml.n:,} decisions, not seen in training"
    console().print(table(title, ("95 % intervals", "rules", "model"), rows, right=("rules", "model")))
    console().print(f"written: {out}/card.json and {out}/{card.model_file}", markup=False)


def version(*, as_json: AsJson = False) -> None:
    """Print the version of Pointsman.

    Example:  pointsman version --json
    """
    import platform  # noqa: PLC0415
    from importlib.metadata import version as installed  # noqa: PLC0415

    if as_json:
        print_json({"pointsman": installed("pointsman"), "python": platform.python_version()})
    else:
        console().print(f"pointsman {installed('pointsman')}", markup=False)
