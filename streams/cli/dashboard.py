"""`dashboard`: the figures of an agent as pictures, on a page of one's own or in Grafana."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

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
    from pointsman.streams.dashboards.panels import Dashboard

Of = Literal["model", "rollout", "pipeline"]
_LAST: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])")
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

    if prometheus and not prometheus.startswith(("http://", "https://")):
        msg = f"--prometheus: an address as http://127.0.0.1:9090, not {prometheus!r}"
        raise Usage(msg)
    end = datetime.now(UTC).replace(
        second=0, microsecond=0
    )  # the minute that is not over yet would look like a fall
    window = Window(agent, end - span(last), end)
    text, drawn = reach.run(_page(loaded.settings, chosen(of, agent), window, prometheus))
    out.write_text(text, encoding="utf-8")
    console().print(f"wrote {out}", markup=False)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for name, picture in drawn.items():
            (pictures / f"{name}.svg").write_text(picture, encoding="utf-8")
        console().print(f"wrote {len(drawn)} pictures to {pictures}", markup=False)


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

    out.mkdir(parents=True, exist_ok=True)
    for of in ("model", "rollout", "pipeline"):
        made = chosen(of, agent)
        path = out / f"{made.uid}.json"
        path.write_text(text(made, "" if of == "pipeline" else agent, docs), encoding="utf-8")
        console().print(f"wrote {path}", markup=False)


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


async def _page(
    settings: Settings, dashboard: Dashboard, window: Window, prometheus: str
) -> tuple[str, dict[str, str]]:
    dsn = reach.dsn(settings)
    if dsn:
        return await _drawn(dsn, dashboard, window, prometheus)
    kept = reach.kept_databases(settings)
    if not kept:
        raise WorkerNotRunning(NOTHING_RUNS)
    import msgspec  # noqa: PLC0415

    from pointsman.streams.embedded import EmbeddedPostgres  # noqa: PLC0415

    # Nothing is written there any more, so the last minute is over as well: of a demo it may be the only one.
    window = msgspec.structs.replace(window, end=window.end + timedelta(minutes=1))
    async with EmbeddedPostgres(kept[0]) as server:
        return await _drawn(server.dsn, dashboard, window, prometheus)


async def _drawn(
    dsn: str, dashboard: Dashboard, window: Window, prometheus: str
) -> tuple[str, dict[str, str]]:
    from pointsman.streams.dashboards import draw  # noqa: PLC0415

    async with reach.connection(dsn) as connection:
        return await draw.drawn(connection, dashboard, window, prometheus)
