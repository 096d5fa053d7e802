"""Settings as options: made from `Settings` itself, so that a setting has one name and one meaning everywhere."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from pointsman.streams import settings as all_settings
from pointsman.streams.cli.failure import Usage
from pointsman.streams.settings import NAMES, SEPARATORS, Loaded, load, meaning

KAFKA: Final = ("kafka", "group", "topic_prefix")
DATABASE: Final = ("dsn", "group")
PLACE: Final = ("data_dir",)
EVERYTHING: Final = ("kafka", "dsn", "group", "topic_prefix", "data_dir", "agents")
PANEL: Final = "Settings (also in the environment as POINTSMAN_NAME, or in the file of --config)"

Command = Callable[..., None]


def with_settings(*names: str) -> Callable[[Command], Command]:
    """Give a command options for the settings ``names``, ``--config`` and ``--set``.

    The command takes ``loaded: Loaded`` first; its other parameters stay its own options.
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        msg = f"no such settings: {unknown}"
        raise ValueError(msg)

    def wrap(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        added = [_parameter(name) for name in dict.fromkeys(names)] + [_config(), _set()]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            options = {name: given.pop(name) for name in names}
            options |= pairs(given.pop("set_"))
            command(_load(options, given.pop("config")), **given)

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *added)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        del run.__wrapped__  # typer would look through it
        return run

    return wrap


def _load(options: Mapping[str, Any], config: str | None) -> Loaded:
    parted = {
        name: [part for part in value.split(SEPARATORS[name]) if part]
        if name in SEPARATORS and isinstance(value, str)
        else value
        for name, value in options.items()
    }
    return load(parted, config=config)


def pairs(given: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as settings. Raises `Usage` for one without a name or a value."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            msg = f"--set {text}: expected NAME=VALUE, as in --set model_deadline_ms=60"
            raise Usage(msg)
        found[name.strip().replace("-", "_").lower()] = value
    return found


def _parameter(name: str) -> inspect.Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=meaning(name),
        metavar=name.upper(),
        rich_help_panel=PANEL,
        show_default=False,
    )
    return _keyword(name, Annotated[str | None, option], None)


def _config() -> inspect.Parameter:
    option = typer.Option(
        "--config",
        help="TOML file of settings.",
        metavar="FILE",
        rich_help_panel=PANEL,
        show_default=False,
    )
    return _keyword("config", Annotated[str | None, option], None)


def _set() -> inspect.Parameter:
    option = typer.Option(
        "--set",
        help="Any other setting; may be given again. `pointsman doctor --settings` lists them.",
        metavar="NAME=VALUE",
        rich_help_panel=PANEL,
        show_default=False,
    )
    return _keyword("set_", Annotated[list[str], option], [])


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def rows(loaded: Loaded) -> list[dict[str, str]]:
    """Every setting with its value (secrets masked), where it came from, and what it means."""
    return [
        {
            "name": name,
            "value": all_settings.shown(name, getattr(loaded.settings, name)),
            "origin": loaded.origins[name],
            "meaning": meaning(name),
        }
        for name in NAMES
    ]
