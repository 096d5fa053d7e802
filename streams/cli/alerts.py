"""`alerts`: what Prometheus, Alertmanager and Grafana have to be given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.streams.cli.agents import loaded_agents, one
from pointsman.streams.cli.failure import Usage
from pointsman.streams.cli.options import with_settings
from pointsman.streams.cli.out import AsJson, console, print_json
from pointsman.streams.settings import Loaded

if TYPE_CHECKING:
    from collections.abc import Mapping

alerts = typer.Typer(help="Files for Prometheus, Alertmanager and Grafana.", no_args_is_help=True)

_HERE: Final = ("localhost", "127.0.0.1", "[::1]")
"""Where a mail relay is this machine's own and needs no TLS."""

Workers = Annotated[
    str | None, typer.Option(help="Operations ports of the workers, host:port,…", show_default=False)
]
Models = Annotated[
    str | None, typer.Option(help="Metrics ports of the model processes, host:port,…", show_default=False)
]
Alertmanager = Annotated[
    str | None, typer.Option(help="Where Alertmanager listens, host:port,…", show_default=False)
]
Smtp = Annotated[
    str | None,
    typer.Option(help="Mail relay, host:port; by TLS only, unless it is this machine.", show_default=False),
]
SmtpUser = Annotated[str | None, typer.Option(help="User of the mail relay.", show_default=False)]
MailFrom = Annotated[str | None, typer.Option(help="Sender of mails.", show_default=False)]
MailTo = Annotated[
    str | None, typer.Option(help="Who gets critical alerts by mail, with commas.", show_default=False)
]
SlackChannel = Annotated[str | None, typer.Option(help="Channel in Slack.", show_default=False)]
Webhook = Annotated[str | None, typer.Option(help="URL to which every alert is posted.", show_default=False)]
Secrets = Annotated[
    Path | None,
    typer.Option(
        help="Folder of smtp-password, slack-url and webhook-token, for Alertmanager to read.",
        show_default=False,
    ),
]
Runbooks = Annotated[
    str | None, typer.Option(help="URL at which docs/runbooks.md can be read.", show_default=False)
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace files that say something else.")]


@alerts.command("rules")
@with_settings("agents")
def rules(
    loaded: Loaded,
    *,
    agent: Annotated[str, typer.Argument(help="Name of the agent, as in `pointsman agents list`.")],
    success: Annotated[float, typer.Option(help="Least success, 0 to 1.")] = 0.75,
    satisfaction: Annotated[float, typer.Option(help="Least satisfaction, 1 to 5.")] = 3.0,
    p95_ms: Annotated[float, typer.Option(help="Greatest p95 of the latency, in milliseconds.")] = 100.0,
    labels: Annotated[int, typer.Option(help="Labels from which success is judged.")] = 50,
    signals: Annotated[int, typer.Option(help="Signals from which satisfaction is judged.")] = 20,
    quiet_minutes: Annotated[int, typer.Option(help="No decision for so long is no traffic.")] = 15,
) -> None:
    """Print an agent's rule file for Prometheus: five alerts that begin with its name.

    Example:  pointsman alerts rules documentation-keeper --p95-ms 200
    """
    from pointsman.streams.alerts import Limits, agent_rules  # noqa: PLC0415

    limits = Limits(
        success=success,
        satisfaction=satisfaction,
        p95_ms=p95_ms,
        labels=labels,
        signals=signals,
        quiet=f"{quiet_minutes}m",
    )
    typer.echo(agent_rules(one(loaded.settings, agent).name, limits), nl=False)


@alerts.command("write")
@with_settings("agents")
def write(
    loaded: Loaded,
    *,
    folder: Annotated[Path, typer.Argument(help="Where `prometheus` and `alertmanager` are made.")],
    workers: Workers = None,
    models: Models = None,
    alertmanager: Alertmanager = None,
    smtp: Smtp = None,
    smtp_user: SmtpUser = None,
    mail_from: MailFrom = None,
    mail_to: MailTo = None,
    slack_channel: SlackChannel = None,
    webhook: Webhook = None,
    secrets: Secrets = None,
    runbooks: Runbooks = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Write the files of both programs, with rules for every loaded agent. What no option says stays as it ships.

    Example:  pointsman alerts write /etc/pointsman --workers w1:9310,w2:9310 --smtp mail:587 --mail-to ops@example.org
    """
    from pointsman.streams.alerts import RUNBOOKS, everything  # noqa: PLC0415

    options: dict[str, Any] = {
        "workers": _listed(workers),
        "models": _listed(models),
        "alertmanager": _listed(alertmanager),
        "smtp": smtp,
        "smtp-tls": None if smtp is None else smtp.rpartition(":")[0] not in _HERE,
        "smtp-user": smtp_user,
        "mail-from": mail_from,
        "mail-to": mail_to,
        "slack-channel": slack_channel,
        "webhook": webhook,
        "secrets": None if secrets is None else str(secrets.absolute()),
    }
    given = {name: value for name, value in options.items() if value is not None}
    made = everything(sorted(loaded_agents(loaded.settings)), given, runbooks or RUNBOOKS)
    written = _write(folder, made, replace=replace)
    if as_json:
        print_json({"written": written})
    else:
        console().print("\n".join(f"written: {path}" for path in written), markup=False)


@alerts.command("grafana")
@with_settings("agents")
def grafana(
    loaded: Loaded,
    *,
    out: Annotated[Path, typer.Option(help="The file to write, of Grafana's folder provisioning/alerting.")],
    runbooks: Runbooks = None,
    replace: Replace = False,
) -> None:
    """Write the same alerts as Grafana's own rules, for every loaded agent. Needs the extra: pip install 'pointsman[grafana]'.

    Grafana evaluates these itself and tells its own contact points: for those who run no Alertmanager.

    Example:  pointsman alerts grafana --out /etc/grafana/provisioning/alerting/pointsman.json
    """
    from pointsman.streams.alerts import RUNBOOKS  # noqa: PLC0415

    try:
        from pointsman.streams.dashboards.grafana_alerts import text  # noqa: PLC0415
    except ModuleNotFoundError as error:
        msg = f"Grafana's files need {error.name}: pip install 'pointsman[grafana]'"
        raise Usage(msg) from error

    made = {out.name: text(sorted(loaded_agents(loaded.settings)), runbooks or RUNBOOKS)}
    console().print(f"wrote {_write(out.parent, made, replace=replace)[0]}", markup=False)


def _listed(addresses: str | None) -> list[str] | None:
    return None if addresses is None else [each for each in addresses.split(",") if each]


def _write(folder: Path, made: Mapping[str, str], *, replace: bool) -> list[str]:
    """Raises `Usage` before anything is written where a file would be lost, or none can be made."""
    paths = {folder / path: text for path, text in made.items()}
    try:
        others = [
            str(path) for path, text in paths.items() if path.exists() and path.read_text("utf-8") != text
        ]
        if others and not replace:
            msg = f"{', '.join(others)}: there already, and other than what would be written; --replace replaces"
            raise Usage(msg)
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror}"
        raise Usage(msg) from error
    return [str(path) for path in paths]
