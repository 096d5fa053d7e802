"""`decide`: one decision in this process, without any server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.streams.cli.agents import loaded_agents, one
from pointsman.streams.cli.failure import Usage
from pointsman.streams.cli.options import with_settings
from pointsman.streams.cli.out import AsJson, console, note, print_json, table
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.models.agent import Agent
    from pointsman.schemas.outcome import Answer

DEFAULT_AGENT: Final = "documentation-keeper"
SHOWN: Final = 8
"""Contributions that people read; JSON has all."""


@with_settings("agents")
def decide(
    loaded: Loaded,
    *,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A request, or an input alone, as JSON; - or nothing: standard input.", show_default=False
        ),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(help=f"Who decides on a bare input; default: {DEFAULT_AGENT}.", show_default=False),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Take the agent's first example as input.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Decide one request here, by rules and by model, without Kafka and database.

    The file holds a whole request ({"id": …, "agent": …, "input": …}, as on topic decision-requests) or the input
    alone. What breaks its contract ends with exit code 2 and the name of the field.

    Example:  pointsman decide --example        echo '{"repository": "a/b", "subject": "Add --json", "files": [{"path": "src/cli.py", "added": 9}]}' | pointsman decide
    """
    settings = loaded.settings
    if example:
        chosen = one(settings, agent or DEFAULT_AGENT)
        found = answer(settings, chosen, _example(chosen))
    else:
        found = answer(settings, *request(settings, _bytes(file), agent))
    if as_json:
        print_json(found)
    else:
        _show(found)


def _example(agent: Agent) -> bytes:
    import msgspec  # noqa: PLC0415

    if not agent.examples:
        msg = f"{agent.name} has no examples"
        raise Usage(msg)
    return msgspec.json.encode(agent.examples[0])


def _bytes(file: Path | None) -> bytes:
    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            note(
                "reading a request from the terminal; end it with Ctrl-D (or try `pointsman decide --example`)"
            )
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise Usage(msg) from error


def request(settings: Settings, value: bytes, agent: str | None) -> tuple[Agent, bytes]:
    """The agent that is asked, and its input. Raises `InvalidMessage` that names the field."""
    from pointsman.schemas.codec import Decoder, too_deep  # noqa: PLC0415
    from pointsman.schemas.errors import InvalidMessage  # noqa: PLC0415
    from pointsman.schemas.request import DecisionRequest, check_name  # noqa: PLC0415

    if not value.strip():
        raise InvalidMessage("empty_value", "value", "a JSON object, not nothing")
    if too_deep(value):
        raise InvalidMessage("too_deep", "value", "fewer levels of arrays and objects")
    if not _is_request(value):
        return one(settings, agent or DEFAULT_AGENT), value
    asked = Decoder(DecisionRequest).decode(value)
    known = loaded_agents(settings)
    if asked.agent not in known:
        check_name(asked.agent)
        raise InvalidMessage(
            "unknown_agent", "agent", f"one of {', '.join(sorted(known))}, not {asked.agent}"
        )
    if agent is not None and agent != asked.agent:
        msg = f"--agent {agent}, but the request asks {asked.agent}"
        raise Usage(msg)
    return known[asked.agent], bytes(asked.input)


def _is_request(value: bytes) -> bool:
    """Whether it has what only a request has. Anything else is taken for an input, whose contract then speaks."""
    from pointsman.schemas.codec import Decoder  # noqa: PLC0415

    found: Any = Decoder(object).decode(value)
    return isinstance(found, dict) and ("input" in found or "agent" in found)


def answer(settings: Settings, agent: Agent, value: bytes) -> dict[str, Any]:
    """What rules and model say of an input, with what added to it. Raises `InvalidMessage`."""
    from pointsman.models.ml import MlDecider  # noqa: PLC0415
    from pointsman.schemas.codec import Decoder  # noqa: PLC0415
    from pointsman.streams.decisions.runtime import Runtime  # noqa: PLC0415

    decoded = Decoder(agent.input_type, "input").decode(value)
    runtime = Runtime(agent, settings.bands.get(agent.name))
    (row,) = agent.rows([decoded])  # as of a unit of which nothing is known
    found = {
        "agent": agent.name,
        "rules": _told(runtime, agent.rules.decide([row])[0], agent.rules.explain(row)),
        "model": None,
        "features": dict(zip(agent.feature_names, row, strict=True)),
        "versions": runtime.versions,
    }
    if agent.model is not None:
        model = MlDecider.load(agent.model, agent.predictions)
        found["model"] = _told(runtime, model.decide([row])[0], model.explain(row))
    return found


def _told(runtime: Any, said: Answer, effects: Any) -> dict[str, Any]:
    from pointsman.schemas.codec import to_builtins  # noqa: PLC0415

    told: dict[str, Any] = dict(to_builtins(said))
    return {**told, "action": runtime.action(said.confidence), "contributions": dict(effects)}


def _show(found: dict[str, Any]) -> None:
    columns = ("", "answer", "score", "confidence", "action", "reason")
    rows = [
        (
            told["decider"],
            told["prediction"],
            told["score"],
            told["confidence"],
            told["action"],
            told["reason"],
        )
        for told in (found["rules"], found["model"])
        if told is not None
    ]
    out = console()
    out.print(table(found["agent"], columns, rows, right=("score", "confidence")))
    if found["model"] is None:
        out.print("no model: the rules answer everything")
    out.print(contributions(found["rules"], found["model"], found["features"]))
    out.print("[dim]A flag decides which of the two is served; here both are asked. All features: --json[/]")


def contributions(
    rules: dict[str, Any],
    model: dict[str, Any] | None,
    features: dict[str, float],
    *,
    shown: int | None = SHOWN,
) -> Any:
    """The features that moved either answer most; with ``shown`` None all there are, also those that moved none."""
    by_rules: dict[str, float] = rules["contributions"]
    by_model: dict[str, float] = (model or {}).get("contributions", {})

    def most(name: str) -> float:
        return -max(abs(by_rules.get(name, 0.0)), abs(by_model.get(name, 0.0)))

    names = sorted(features, key=most)
    if shown is not None:
        names = [name for name in names if most(name)][:shown]
    rows = [
        (name, f"{features[name]:.4g}", _effect(by_rules.get(name)), _effect(by_model.get(name)))
        for name in names
    ]
    columns = ("feature", "value", "adds to rules", "adds to model")
    title = (
        "What moved the answers most" if shown is not None else "Features, and what each added to the answers"
    )
    return table(title, columns, rows, right=columns[1:])


def _effect(value: float | None) -> str:
    return f"{value:+.3f}" if value else ""
