"""`explain`, `status` and `doctor`: looking at what was decided, what runs, and what is wrong."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import FAILED, OK, UNREACHABLE
from pointsman.streams.cli.options import DATABASE, EVERYTHING, PLACE, rows, with_settings
from pointsman.streams.cli.out import AsJson, console, print_json, table
from pointsman.streams.settings import Loaded


@with_settings(*DATABASE, *PLACE, "agents")
def explain(
    loaded: Loaded,
    *,
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="The decision's id: that of its request.")],
    as_json: AsJson = False,
) -> None:
    """Show a past decision in full, and whether it comes out the same when it is computed again.

    Reads the database of --dsn, else that of what runs here, else the one that `demo` or `up` left in the data
    folder. Exit 1 where the recomputed answer differs.

    Example:  pointsman explain demo1a2b-0123456789
    """
    from pointsman.streams.cli.explain import as_text, find, recomputed, show  # noqa: PLC0415

    stored = reach.run(find(loaded.settings, decision_id))
    again = recomputed(loaded.settings, stored)
    if as_json:
        print_json({"decision": as_text(stored), "recomputed": again})
    else:
        show(stored, again, console())
    if again["identical"] is False:
        raise typer.Exit(FAILED)


@with_settings("group", *PLACE, "metrics_host", "metrics_port")
def status(
    loaded: Loaded,
    *,
    ops: Annotated[
        list[str] | None,
        typer.Option(
            help="Operations port to ask, as in http://10.0.0.7:9310; may be given again.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what runs: lanes and their lag, models, flags, and the live figures. Needs no database.

    Exit 0: all healthy; 1: something is not; 3: nothing answers.

    Example:  pointsman status --json
    """
    from pointsman.streams.cli.status import gather, show  # noqa: PLC0415

    report = reach.run(gather(loaded, ops or []))
    if as_json:
        print_json(report)
    else:
        show(report, console())
    code = {None: UNREACHABLE, True: OK, False: FAILED}[report["healthy"]]
    if code:
        raise typer.Exit(code)


@with_settings(*EVERYTHING)
def doctor(
    loaded: Loaded,
    *,
    settings: Annotated[
        bool, typer.Option("--settings", help="List every setting: value, where it came from, meaning.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check what is reachable and what is misconfigured, and name the mend for each; exit 1 if something is wrong.

    Example:  pointsman doctor        pointsman doctor --settings
    """
    if settings:
        found = rows(loaded)
        if as_json:
            print_json(found)
            return
        columns = ("name", "value", "origin", "meaning")
        title = "Settings: command line, then POINTSMAN_NAME, then the file, then the default"
        console().print(table(title, columns, [[row[column] for column in columns] for row in found]))
        return
    from pointsman.streams.cli.doctor import examine  # noqa: PLC0415

    checks = reach.run(examine(loaded.settings))
    if as_json:
        print_json(checks)
    else:
        _show_checks(checks)
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(FAILED)


def _show_checks(checks: list[Any]) -> None:
    from rich.text import Text  # noqa: PLC0415

    styles = {"ok": "green", "wrong": "bold red", "absent": "dim"}
    found = [
        (Text(check.state, style=styles[check.state]), check.what, check.found, check.mend)
        for check in checks
    ]
    console().print(table("", ("", "what", "found", "mend"), found))
