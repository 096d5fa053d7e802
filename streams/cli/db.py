"""`db`: the tables of a deployment, and whether they say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import FAILED, NOTHING_RUNS
from pointsman.streams.cli.options import DATABASE, PLACE, with_settings
from pointsman.streams.cli.out import AsJson, console, print_json, table
from pointsman.streams.errors import WorkerNotRunning
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.streams.store.check import Difference

database = typer.Typer(help="Tables of this deployment.", no_args_is_help=True)


def _dsn(settings: Settings) -> str:
    found = reach.dsn(settings)
    if not found:
        raise WorkerNotRunning(NOTHING_RUNS)
    return found


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
    """Bring the tables up to date; safe to run twice and from several processes at once.

    Example:  pointsman db migrate --dsn postgresql://me@localhost/audit
    """
    from pointsman.streams.store import migrate as migrations  # noqa: PLC0415

    dsn = _dsn(loaded.settings)
    if plan:
        planned = reach.run(migrations.plan(dsn))
        if as_json:
            print_json({"planned": planned})
        else:
            texts = [f"-- {each.version:04}_{each.name}\n{each.sql}" for each in planned]
            console().print("\n".join(texts) or "nothing to do", markup=False)
        return
    done = reach.run(migrations.migrate(dsn))
    if as_json:
        print_json({"applied": done})
    else:
        console().print("\n".join(f"applied {name}" for name in done) or "nothing to do", markup=False)


@database.command("status")
@with_settings(*DATABASE, *PLACE)
def status(loaded: Loaded, *, as_json: AsJson = False) -> None:
    """List the migrations and how each stands; exit 1 unless all are applied.

    Example:  pointsman db status --json
    """
    from pointsman.streams.store.migrate import status as look  # noqa: PLC0415

    states = reach.run(look(_dsn(loaded.settings)))
    if as_json:
        print_json(states)
    else:
        rows = [
            (f"{s.version:04}_{s.name}", s.state, s.applied_at and f"{s.applied_at:%Y-%m-%d %H:%M}")
            for s in states
        ]
        console().print(table("", ("migration", "state", "applied"), rows))
    if any(state.state != "applied" for state in states):
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
    found = reach.run(_differences(_dsn(loaded.settings), grace_s))
    if as_json:
        print_json(found)
    elif found:
        rows = [(each.what, each.where, str(each.expected), str(each.found)) for each in found]
        console().print(table("", ("what", "where", "audit", "found"), rows))
    else:
        console().print("ledgers and figures equal the audit")
    if found:
        raise typer.Exit(FAILED)


async def _differences(dsn: str, grace_s: float) -> list[Difference]:
    from psycopg import IsolationLevel  # noqa: PLC0415 - imports the driver

    from pointsman.streams.store.check import aggregates_check, ledger_check  # noqa: PLC0415

    async with reach.connection(dsn) as connection:
        # One snapshot: a worker writes meanwhile, and what it adds between two queries would be a difference.
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        async with connection.transaction():
            return [*await ledger_check(connection, grace_s), *await aggregates_check(connection)]
