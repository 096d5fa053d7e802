"""`db`: the tables of a deployment, and whether they say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import FAILED
from pointsman.streams.cli.options import DATABASE, PLACE, with_settings
from pointsman.streams.cli.out import AsJson, console, note, print_json, table
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.streams.store.check import Difference
    from pointsman.streams.store.edition import Made, Wanted

database = typer.Typer(help="Tables of this deployment.", no_args_is_help=True)


@database.command("migrate")
@with_settings(*DATABASE, *PLACE)
def migrate(
    loaded: Loaded,
    *,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run, as SQL, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the tables up to date, then make what the server's edition allows; safe to run twice and at once.

    Example:  pointsman db migrate --dsn postgresql://me@localhost/audit
    """
    from pointsman.streams.store.edition import Wanted  # noqa: PLC0415 - imports the driver

    dsn, wanted = reach.the_dsn(loaded.settings), Wanted.of(loaded.settings)
    if plan:
        _print_plan(dsn, wanted, as_json=as_json)
        return
    done, made = reach.run(_brought(dsn, wanted))
    if as_json:
        print_json({"applied": done, "made": made.steps, "note": made.note})
        return
    lines = [*(f"applied {name}" for name in done), *(f"made {name}" for name in made.steps)]
    console().print("\n".join(lines) or "nothing to do", markup=False)
    if made.note:
        note(made.note)


async def _brought(dsn: str, wanted: Wanted) -> tuple[list[str], Made]:
    from pointsman.streams.store import edition, migrate  # noqa: PLC0415

    return await migrate.migrate(dsn), await edition.apply(dsn, wanted)


def _print_plan(dsn: str, wanted: Wanted, *, as_json: bool) -> None:
    from pointsman.streams.store import edition, migrate  # noqa: PLC0415

    async def look() -> tuple[list[migrate.Migration], edition.Found]:
        return await migrate.plan(dsn), await edition.look(dsn)

    planned, found = reach.run(look())
    steps = edition.steps(found, wanted)
    if as_json:
        print_json({"planned": planned, "steps": steps})
        return
    texts = [f"-- {each.version:04}_{each.name}\n{each.sql}" for each in planned]
    texts += [f"-- {each.name}\n{each.sql}\n" for each in steps]
    console().print("\n".join(texts) or "nothing to do", markup=False)


@database.command("status")
@with_settings(*DATABASE, *PLACE)
def status(loaded: Loaded, *, as_json: AsJson = False) -> None:
    """List the migrations, the server's edition and what it gives; exit 1 unless all is there and runs.

    Example:  pointsman db status --json
    """
    from pointsman.streams.store import edition, migrate  # noqa: PLC0415

    dsn = reach.the_dsn(loaded.settings)

    async def look() -> tuple[list[migrate.MigrationState], edition.Found]:
        return await migrate.status(dsn), await edition.look(dsn)

    states, found = reach.run(look())
    features = edition.features(found, edition.Wanted.of(loaded.settings))
    server = found.server
    if as_json:
        print_json(
            {
                "migrations": states,
                "server": server.server,
                "edition": server.edition,
                "version": server.installed,
                "features": features,
            }
        )
    else:
        rows = [
            (f"{s.version:04}_{s.name}", s.state, s.applied_at and f"{s.applied_at:%Y-%m-%d %H:%M}")
            for s in states
        ]
        console().print(table("", ("migration", "state", "applied"), rows))
        title = " ".join(filter(None, (edition.SHOWN[server.edition], server.installed)))
        title += f" on PostgreSQL {server.server}" if server.installed else f" {server.server}"
        shown = [(each.name, each.state, each.found, each.way) for each in features]
        console().print(table(title, ("feature", "state", "found", "way to get it"), shown))
    if any(state.state != "applied" for state in states) or any(
        each.state in ("missing", "failing") for each in features
    ):
        raise typer.Exit(FAILED)


@database.command("check")
@with_settings(*DATABASE, *PLACE)
def check(
    loaded: Loaded,
    *,
    grace_s: Annotated[
        float, typer.Option("--grace", help="Seconds for which rows of a ledger may be under way.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Compare the ledgers and the figures by minute with the audit's rows, all of them; exit 1 where they differ.

    Example:  pointsman db check --json
    """
    found = reach.run(_differences(loaded.settings, grace_s))
    if as_json:
        print_json(found)
    elif found:
        rows = [(each.what, each.where, str(each.expected), str(each.found)) for each in found]
        console().print(table("", ("what", "where", "audit", "found"), rows))
    else:
        console().print("ledgers and figures equal the audit")
    if found:
        raise typer.Exit(FAILED)


async def _differences(settings: Settings, grace_s: float) -> list[Difference]:
    from psycopg import IsolationLevel  # noqa: PLC0415 - imports the driver

    from pointsman.streams.store.check import aggregates_check, ledger_check  # noqa: PLC0415

    async with reach.database(settings) as connection:
        # One snapshot: a worker writes meanwhile, and what it adds between two queries would be a difference.
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        async with connection.transaction():
            return [
                *await ledger_check(connection, grace_s),
                *await aggregates_check(connection, settings.aggregate_retention_days),
            ]
