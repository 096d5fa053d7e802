"""The commands, each in the module of its subject. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from typing import Annotated

import typer

from pointsman.streams.cli import (
    agents,
    alerts,
    audit,
    dashboard,
    db,
    deploy,
    dlq,
    inspect_,
    offline,
    operate,
)

OVERVIEW = """Sets the points for decisions: routes each Kafka decision request to a model or to rules,
joins the truth that comes later, and moves traffic by evidence.

A first look:  [bold]pointsman demo[/]    (the git history you stand in, through everything)
Run it:        [bold]pointsman up[/], then [bold]pointsman status[/] and [bold]pointsman flags set ml-agent-rollout 5[/]
One decision:  [bold]pointsman decide --example[/]

Exit codes: 0 ok, 1 failed or unhealthy, 2 bad usage or input, 3 nothing runs or answers, 130 interrupted."""

app = typer.Typer(
    name="pointsman",
    help=OVERVIEW,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error. May stand anywhere.")
    ] = False,
) -> None:
    """Print the help where no command is given."""
    del debug  # taken out by `main` before
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


RUN = "Run"
DECIDE = "Decide and explain"
OPERATE = "Operate"
BUILD = "Agents and models"

app.command("up", rich_help_panel=RUN)(deploy.up)
app.command("demo", rich_help_panel=RUN)(deploy.demo)
app.command("worker", rich_help_panel=RUN)(deploy.worker)
app.command("decide", rich_help_panel=DECIDE)(offline.decide)
app.command("explain", rich_help_panel=DECIDE)(inspect_.explain)
app.command("status", rich_help_panel=OPERATE)(inspect_.status)
app.add_typer(dashboard.dashboards, name="dashboard", rich_help_panel=OPERATE)
app.add_typer(operate.flags, name="flags", rich_help_panel=OPERATE)
app.add_typer(operate.topics, name="topics", rich_help_panel=OPERATE)
app.add_typer(dlq.dlq, name="dlq", rich_help_panel=OPERATE)
app.add_typer(db.database, name="db", rich_help_panel=OPERATE)
app.add_typer(alerts.alerts, name="alerts", rich_help_panel=OPERATE)
app.add_typer(audit.audit, name="audit", rich_help_panel=OPERATE)
app.command("doctor", rich_help_panel=OPERATE)(inspect_.doctor)
app.add_typer(agents.agents, name="agents", rich_help_panel=BUILD)
app.command("train", rich_help_panel=BUILD)(agents.train)
app.command("version", rich_help_panel=BUILD)(agents.version)
