"""`flags` and `topics`: what an operator sets and looks at."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointsman.streams.cli import reach
from pointsman.streams.cli.agents import loaded_agents
from pointsman.streams.cli.failure import FAILED, Usage
from pointsman.streams.cli.options import KAFKA, PLACE, with_settings
from pointsman.streams.cli.out import AsJson, console, note, print_json, table
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.schemas.control import Flag
    from pointsman.streams.flags import FlagWriter
    from pointsman.streams.growth import Grown
    from pointsman.streams.topics import TopicState


class Partitioner(StrEnum):
    """As `partitioner` names them."""

    MURMUR2 = "murmur2"
    CRC32 = "crc32"


flags = typer.Typer(help="Percentages of traffic that models serve.", no_args_is_help=True)
topics = typer.Typer(help="Topics of this deployment.", no_args_is_help=True)


# -- flags -------------------------------------------------------------------------------------------


@flags.command("get")
@with_settings(*KAFKA, *PLACE, "agents")
def get(
    loaded: Loaded,
    *,
    name: Annotated[str | None, typer.Argument(help="One flag; default: all.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Print flags as they are now; one that was never set counts as 0.

    Example:  pointsman flags get ml-agent-rollout --json
    """
    found = {flag.name: flag for flag in reach.run(_read(loaded.settings))}
    known = {agent.flag for agent in loaded_agents(loaded.settings).values()}
    wanted = [name] if name else sorted(known | set(found))
    if name and name not in known and name not in found:
        note(f"pointsman: no agent has a flag {name}, and it was never set")
    rows = [_row(each, found.get(each)) for each in wanted]
    if as_json:
        print_json(rows[0] if name else rows)
        return
    columns = ("name", "percentage", "version", "changed_at", "changed_by", "why")
    console().print(table("", columns, [[row[c] for c in columns] for row in rows], right=columns[1:3]))


def _row(name: str, flag: Flag | None) -> dict[str, Any]:
    from pointsman.schemas.codec import to_builtins  # noqa: PLC0415

    unset = {
        "name": name,
        "percentage": 0.0,
        "version": 0,
        "changed_at": None,
        "changed_by": "",
        "why": "never set",
    }
    return dict(to_builtins(flag)) if flag else unset


async def _read(settings: Settings) -> list[Flag]:
    return (await (await _writer(settings)).read()).all()


async def _writer(settings: Settings) -> FlagWriter:
    from pointsman.streams.flags import FlagWriter  # noqa: PLC0415
    from pointsman.streams.topics import Names  # noqa: PLC0415

    return FlagWriter(
        reach.kafka(settings),
        Names.of(settings).flags,
        group=settings.group,
        transactional=not reach.is_embedded(settings),
    )


@flags.command("set")
@with_settings(*KAFKA, *PLACE, "agents")
def set_flag(
    loaded: Loaded,
    *,
    name: Annotated[str, typer.Argument(help="The flag, as in ml-agent-rollout.")],
    percent: Annotated[float, typer.Argument(min=0, max=100, help="0: the rules answer everything.")],
    why: Annotated[str, typer.Option(help="A reason; kept beside the flag.")] = "",
    by: Annotated[
        str | None, typer.Option(help="Who; default: you, on this host.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set a flag; every worker knows within a second. Raising it only adds units, lowering takes them back.

    Example:  pointsman flags set ml-agent-rollout 20 --why "alpha looked good"
    """
    _check_name(name)
    known = {agent.flag for agent in loaded_agents(loaded.settings).values()}
    if name not in known:
        note(f"pointsman: no loaded agent reads flag {name}; those there are: {', '.join(sorted(known))}")
    flag = reach.run(_set(loaded.settings, name, percent, by or person(), why))
    if as_json:
        print_json(_row(name, flag))
    else:
        console().print(f"{flag.name} = {flag.percentage:g} % (version {flag.version})", markup=False)


def _check_name(name: str) -> None:
    import msgspec  # noqa: PLC0415

    from pointsman.schemas.control import FlagName  # noqa: PLC0415

    try:
        msgspec.convert(name, FlagName)
    except msgspec.ValidationError as error:
        msg = f"{name!r} is no flag name: lower-case letters, digits, dots, hyphens, underscores; a letter first"
        raise Usage(msg) from error


def person() -> str:
    """Who gives the command, on which host."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return f"unknown@{socket.gethostname()}"


async def _set(settings: Settings, name: str, percent: float, by: str, why: str) -> Flag:
    return await (await _writer(settings)).set(name, percent, by=by, why=why)


# -- topics ------------------------------------------------------------------------------------------


@topics.command("create")
@with_settings(*KAFKA, *PLACE, "partitions", "replication")
def create(loaded: Loaded, *, as_json: AsJson = False) -> None:
    """Create the topics that are missing; those that exist are left as they are.

    Example:  pointsman topics create --kafka localhost:9092 --partitions 12 --replication 3
    """
    made, states = reach.run(_create(loaded.settings))
    if as_json:
        print_json({"created": made, "topics": states})
    else:
        for name in made:
            console().print(f"created {name}", markup=False)
        _show(states)
    _exit_for(states)


@topics.command("check")
@with_settings(*KAFKA, *PLACE)
def check(loaded: Loaded, *, as_json: AsJson = False) -> None:
    """Look whether every topic is there with the partitions it must have; exit 1 if not.

    Example:  pointsman topics check --json
    """
    _, states = reach.run(_create(loaded.settings, create=False))
    if as_json:
        print_json({"topics": states})
    else:
        _show(states)
    _exit_for(states)


@topics.command("grow")
@with_settings(*KAFKA, *PLACE)
def grow(
    loaded: Loaded,
    *,
    partitions: Annotated[int, typer.Option(min=2, help="How many there are to be.", show_default=False)],
    partitioner: Annotated[
        Partitioner,
        typer.Option(help="Of the producers; crc32: librdkafka's, where it was not told another."),
    ] = Partitioner.MURMUR2,
    as_json: AsJson = False,
) -> None:
    """Give all topics but the flags more partitions, and move what agents keep of each unit to where its requests will be.

    Stop the producers, let workers run until nothing waits, stop them too; where this is killed, give the same command again.

    Example:  pointsman topics grow --partitions 24
    """
    done = reach.run(_grow(loaded.settings, partitions, partitioner.value))
    if as_json:
        print_json(done)
        return
    for name in done.topics:
        console().print(f"grew {name} to {done.after}", markup=False)
    console().print(f"moved {done.entries} values and notes of {done.units} units", markup=False)
    if done.sent_again:
        console().print(f"sent {done.sent_again} waiting records to where they belong", markup=False)


async def _grow(settings: Settings, partitions: int, partitioner: str) -> Grown:
    from pointsman.streams import topics as all_topics  # noqa: PLC0415
    from pointsman.streams.growth import Growth  # noqa: PLC0415

    if reach.is_embedded(settings):
        msg = "the embedded broker forgets all at its end: start it with more partitions instead"
        raise Usage(msg)
    servers = reach.kafka(settings)
    admin = await all_topics.connect(servers)
    try:
        return await Growth(admin, servers, settings, partitions, partitioner).run()
    finally:
        await admin.close()


async def _create(settings: Settings, *, create: bool = True) -> tuple[list[str], list[TopicState]]:
    from pointsman.streams import topics as all_topics  # noqa: PLC0415

    if create and reach.is_embedded(settings):
        msg = "the embedded broker makes its topics itself; there is nothing to create"
        raise Usage(msg)
    admin = await all_topics.connect(reach.kafka(settings))
    try:
        made = await all_topics.create(admin, settings) if create else []
        if made:
            await all_topics.appear(admin, settings)
        return made, await all_topics.states(admin, settings)
    finally:
        await admin.close()


def _show(states: Sequence[TopicState]) -> None:
    rows = [(state.name, state.partitions or None, state.wanted, state.problem or "ok") for state in states]
    console().print(table("", ("topic", "partitions", "wanted", ""), rows, right=("partitions", "wanted")))


def _exit_for(states: Sequence[TopicState]) -> None:
    if any(state.problem for state in states):
        raise typer.Exit(FAILED)
