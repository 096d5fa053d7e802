"""`dashboard`: the figures of an agent as pictures, on a page of one's own or in Grafana."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pointsman.schemas.request import AGENT_NAME
from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import NOTHING_RUNS, Usage
from pointsman.streams.cli.options import DATABASE, PLACE, with_settings
from pointsman.streams.cli.out import console
from pointsman.streams.errors import WorkerNotRunning
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.streams.dashboards.ask import Window
    from pointsman.streams.dashboards.draw import Changes
    from pointsman.streams.dashboards.panels import Dashboard
    from pointsman.streams.dashboards.picture import Shown

_LAST: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

dashboards = typer.Typer(help="Figures as pictures: a page, or Grafana's files.", no_args_is_help=True)


@dashboards.command("page")
@with_settings(*DATABASE, *PLACE)
def page(
    loaded: Loaded,
    *,
    agent: Annotated[str, typer.Option(help="Whose figures.")] = "documentation-keeper",
    of: Annotated[
        str,
        typer.Option(
            metavar="[model|rollout|pipeline]",
            help="model: the model beside the rules; rollout: the evidence; pipeline: the lanes (needs --prometheus).",
        ),
    ] = "model",
    last: Annotated[str, typer.Option(help="How far back, as 30m, 6h or 7d.")] = "6h",
    prometheus: Annotated[
        str,
        typer.Option(help="Address of Prometheus, for the panels that need it, as http://127.0.0.1:9090."),
    ] = "",
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("dashboard.html"),
    pictures: Annotated[
        Path | None, typer.Option(help="A folder to write each panel to as well, as SVG.", show_default=False)
    ] = None,
) -> None:
    """Write a dashboard as one page that needs nothing else, from the same queries as Grafana's.

    Reads the database of --dsn, else that of what runs here, else the one that `demo` or `up` left in the data folder.

    Example:  pointsman dashboard page --last 1h --out figures.html
    """
    from pointsman.streams.dashboards.ask import Window  # noqa: PLC0415
    from pointsman.streams.dashboards.page import page as draw_page  # noqa: PLC0415
    from pointsman.streams.dashboards.panels import slug  # noqa: PLC0415
    from pointsman.streams.dashboards.picture import alone  # noqa: PLC0415

    if prometheus and not prometheus.startswith(("http://", "https://")):
        msg = f"--prometheus: an address as http://127.0.0.1:9090, not {prometheus!r}"
        raise Usage(msg)
    # The minute that is not over yet would look like a fall.
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    window, board = Window(agent, end - span(last), end), chosen(of, agent)
    shown, changes = reach.run(_found(loaded.settings, board, window, prometheus))
    _write(out, draw_page(board, window, shown, changes))
    if pictures is not None:
        for each in shown:
            _write(pictures / f"{slug(each.panel.title)}.svg", alone(each, window, changes))


@dashboards.command("grafana")
def grafana(
    *,
    agent: Annotated[str, typer.Option(help="Whose dashboards.")] = "documentation-keeper",
    docs: Annotated[str, typer.Option(help="Where the documentation is read: the panels' links.")] = "docs",
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(),
) -> None:
    """Write Grafana's dashboards for an agent, one file each. Needs the extra: pip install 'pointsman[grafana]'.

    Example:  pointsman dashboard grafana --agent my-agent --out /etc/grafana/dashboards
    """
    try:
        from pointsman.streams.dashboards.grafana import text  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = f"Grafana's files need {error.name}: pip install 'pointsman[grafana]'"
        raise Usage(msg) from error

    for of in ("model", "rollout", "pipeline"):
        made = chosen(of, agent)
        _write(out / f"{made.uid}.json", text(made, "" if of == "pipeline" else agent, docs))


def chosen(of: str, agent: str) -> Dashboard:
    """The dashboard of that word. Raises `Usage`."""
    if not re.match(AGENT_NAME, agent):
        msg = f"--agent: an agent's name, as docs-keeper, not {agent!r}"
        raise Usage(msg)
    from pointsman.streams.dashboards import panels  # noqa: PLC0415

    made = {
        "model": lambda: panels.of_model(agent),
        "rollout": lambda: panels.of_rollout(agent),
        "pipeline": panels.of_pipeline,
    }
    if of not in made:
        msg = f"--of: one of {', '.join(made)}, not {of!r}"
        raise Usage(msg)
    return made[of]()


def span(text: str) -> timedelta:
    """A duration such as 30m, 6h or 7d. Raises `Usage`."""
    found = _LAST.fullmatch(text)
    if not found:
        msg = f"--last: a number with m, h or d behind it, as 6h, not {text!r}"
        raise Usage(msg)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _write(path: Path, text: str) -> None:
    """Raises `Usage` where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise Usage(msg) from error
    console().print(f"wrote {path}", markup=False)


async def _found(
    settings: Settings, dashboard: Dashboard, window: Window, prometheus: str
) -> tuple[list[Shown], Changes]:
    from pointsman.streams.dashboards import draw  # noqa: PLC0415

    dsn = reach.dsn(settings)
    if dsn:
        async with reach.connection(dsn) as connection:
            return await draw.found(connection, dashboard, window, prometheus)
    kept = reach.kept_databases(settings)
    if not kept:
        raise WorkerNotRunning(NOTHING_RUNS)
    import msgspec  # noqa: PLC0415

    from pointsman.streams.embedded import EmbeddedPostgres  # noqa: PLC0415

    # Nothing is written there any more, so the last minute is over as well: of a demo it may be the only one.
    window = msgspec.structs.replace(window, end=window.end + timedelta(minutes=1))
    async with EmbeddedPostgres(kept[0]) as server, reach.connection(server.dsn) as connection:
        return await draw.found(connection, dashboard, window, prometheus)
