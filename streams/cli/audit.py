"""`audit`: proves that nothing was changed behind the audit, and lets go what must go; `export` is beside."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.schemas.codec import to_builtins
from pointsman.streams.cli import reach
from pointsman.streams.cli.export import export
from pointsman.streams.cli.failure import FAILED, Usage
from pointsman.streams.cli.operate import person
from pointsman.streams.cli.options import DATABASE, PLACE, with_settings
from pointsman.streams.cli.out import AsJson, console, note, print_json, table
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.streams.store.digests import Digest
    from pointsman.streams.store.retention import Expired
    from pointsman.streams.store.verify import Report

audit = typer.Typer(
    help="The audit: export, daily digests, and what may be deleted of it.", no_args_is_help=True
)
audit.command("export")(export)

By = Annotated[
    str | None, typer.Option(help="Who; kept in the record. Default: you, on this host.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")]


# -- digests ---------------------------------------------------------------------------------------------


@audit.command("digest")
@with_settings(*DATABASE, *PLACE)
def digest(
    loaded: Loaded,
    *,
    day: Annotated[
        str | None,
        typer.Option(help="Up to this UTC day; default: all that are over and settled.", show_default=False),
    ] = None,
    revise: Annotated[
        str | None,
        typer.Option(
            metavar="WHY",
            help="A further revision of --day, whose rows are others now; the reason is kept.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the daily digests that are missing; safe to run again. Keep the newest one elsewhere, too.

    A day is settled 15 minutes after it is over, once no transaction from before midnight is open.

    Example:  pointsman audit digest
    """
    wanted = None if day is None else _day("--day", day)
    if revise is not None and wanted is None:
        msg = "--revise: say which day with --day"
        raise Usage(msg)
    made = reach.run(_digests(loaded.settings, wanted, revise))
    if as_json:
        print_json([_row(each) for each in made])
        return
    for each in made:
        rows = sum(of_table.rows for of_table in each.tables.values())
        console().print(f"{each.day} {each.digest.hex()} ({rows:,} rows)", markup=False)
    if not made:
        console().print("nothing to do")


async def _digests(settings: Settings, day: date | None, revise: str | None) -> list[Digest]:
    from pointsman.streams.store import digests  # noqa: PLC0415

    async with reach.database(settings) as connection:
        if day is not None and revise is not None:
            return [await digests.revise(connection, day, revise)]
        return await digests.make(connection, day)


def _row(made: Digest) -> dict[str, Any]:
    return {
        "day": made.day.isoformat(),
        "revision": made.revision,
        "seq": made.seq,
        "digest": made.digest.hex(),
        "previous": made.previous.hex(),
        "tables": made.tables,
        "why": made.why,
        "known_at": made.known_at.isoformat(),
    }


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        msg = f"{option} {text}: expected a day, as in 2026-11-01"
        raise Usage(msg) from error


@audit.command("verify")
@with_settings(*DATABASE, *PLACE)
def verify(
    loaded: Loaded,
    *,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="Rows of this UTC day or later.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="DAY", help="Rows of before this UTC day.", show_default=False),
    ] = None,
    noted: Annotated[
        str,
        typer.Option(
            metavar="DIGEST",
            help="A digest that you kept elsewhere: it must stand in the chain.",
            show_default=False,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compute the digests again, check their chain, and the contents against their commitments; exit 1 where one differs.

    Example:  pointsman audit verify --from 2026-11-01
    """
    first = None if since is None else _day("--from", since)
    last = None if until is None else _day("--to", until)
    report = reach.run(_verify(loaded.settings, first, last, noted))
    if as_json:
        print_json(to_builtins(report) | {"revised": [_row(each) for each in report.revised]})
    else:
        _show_report(report)
    if report.findings:
        raise typer.Exit(FAILED)


async def _verify(settings: Settings, since: date | None, before: date | None, noted: str) -> Report:
    from psycopg import IsolationLevel  # noqa: PLC0415 - imports the driver

    from pointsman.streams.store import verify as verifying  # noqa: PLC0415

    async with reach.database(settings) as connection:
        # One snapshot: a row and its content are written together.
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        async with connection.transaction():
            return await verifying.verify(connection, since, before, noted)


def _show_report(report: Report) -> None:
    out = console()
    if report.findings:
        rows = [(each.day, each.table, each.what) for each in report.findings]
        out.print(table("What does not fit", ("day", "table", "what"), rows))
    for each in report.expired:
        left = f"; {each.left:,} rows are still there" if each.left else ""
        out.print(
            f"{each.day}: expired on {each.at:%Y-%m-%d %H:%M} UTC by {each.by}, after {each.retention_days} days{left}",
            markup=False,
        )
    for revised in report.revised:
        out.print(
            f"{revised.day}: revision {revised.revision} on {revised.known_at:%Y-%m-%d %H:%M} UTC: {revised.why}",
            markup=False,
        )
    if report.waiting:
        out.print(
            f"{len(report.waiting)} days wait for `pointsman audit digest`, from {report.waiting[0]} on"
        )
    if not report.newest:
        out.print("there is no digest yet: `pointsman audit digest` makes them")
        return
    verdict = "do NOT all fit" if report.findings else "fit"
    out.print(
        f"{report.rows:,} rows of {report.days} days and {report.contents:,} contents {verdict}; newest digest {report.newest}"
    )


# -- what goes -------------------------------------------------------------------------------------------


@audit.command("expire")
@with_settings(*DATABASE, *PLACE, "audit_retention_days", "content_retention_days")
def expire(loaded: Loaded, *, by: By = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Delete what is older than the settings audit_retention_days and content_retention_days say; run it daily.

    Rows of the audit go by days that have a digest, which stays; so do all figures by minute.

    Example:  pointsman audit expire --dry-run
    """
    settings = loaded.settings
    if not settings.audit_retention_days and not settings.content_retention_days:
        note("pointsman: audit_retention_days and content_retention_days are 0: everything is kept")
    found = reach.run(_expire(settings, by or person(), dry=dry_run))
    if as_json:
        print_json(found)
        return
    verb = "would go" if dry_run else "deleted"
    for each in found:
        rows = ", ".join(f"{count:,} {name}" for name, count in each.rows.items() if count)
        console().print(f"{each.kind} of before {each.before}: {verb}: {rows or 'nothing'}", markup=False)


async def _expire(settings: Settings, by: str, *, dry: bool) -> list[Expired]:
    from pointsman.streams.store import retention  # noqa: PLC0415

    async with reach.database(settings) as connection, retention.deleting(connection):
        return await retention.expire(
            connection,
            audit_days=settings.audit_retention_days,
            content_days=settings.content_retention_days,
            by=by,
            dry=dry,
        )


@audit.command("forget")
@with_settings(*DATABASE, *PLACE)
def forget(
    loaded: Loaded,
    *,
    unit: Annotated[
        str | None, typer.Option(help="The unit, as in the requests.", show_default=False)
    ] = None,
    decision: Annotated[str | None, typer.Option(help="One decision, by its id.", show_default=False)] = None,
    by: By = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete what a unit could be known by: its unit, its inputs, and the words said of its decisions.

    Decisions, features and figures stay, and the digests with them. What still waits in Kafka comes afterwards: run it
    again then.

    Example:  pointsman audit forget --unit repo-1 --dry-run
    """
    if not (unit or decision) or (unit and decision):
        msg = "say whose: --unit, or --decision"
        raise Usage(msg)
    rows = reach.run(_forget(loaded.settings, unit, decision, by or person(), dry=dry_run))
    if as_json:
        print_json(rows)
        return
    if not any(rows.values()):
        console().print("nothing of it is there")
        return
    verb = "would go" if dry_run else "deleted and recorded"
    console().print(
        f"{verb}: " + ", ".join(f"{count:,} {name}" for name, count in rows.items()), markup=False
    )


async def _forget(
    settings: Settings, unit: str | None, decision: str | None, by: str, *, dry: bool
) -> dict[str, int]:
    from pointsman.streams.store import retention  # noqa: PLC0415

    async with reach.database(settings) as connection, retention.deleting(connection):
        if unit:
            return await retention.forget_unit(connection, unit, by=by, dry=dry)
        return await retention.forget_decision(connection, decision or "", by=by, dry=dry)
