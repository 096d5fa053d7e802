"""`dlq`: messages that were refused, and sending them again once the cause is mended."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import FAILED, Usage
from pointsman.streams.cli.operate import person
from pointsman.streams.cli.options import KAFKA, PLACE, with_settings
from pointsman.streams.cli.out import AsJson, console, note, print_json, table
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.streams.letters import Letter, Wanted
    from pointsman.streams.redrive import Redriver, Result

dlq = typer.Typer(
    help="Dead letters: messages that were refused, and sending them again.", no_args_is_help=True
)

LIST_MAX: Final = 50
"""As many as fit a look; the counts above the table are of all."""
REDRIVE_MAX: Final = 1000
"""Enough for most mishaps, few enough for a mistake to be mended."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Names_ = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LETTER]...", help="Letters by name, as in 2/17; default: all.", show_default=False
    ),
]
Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="Only these reasons.", show_default=False)
]
AgentNames = Annotated[
    list[str] | None, typer.Option("--agent", help="Only requests to these agents.", show_default=False)
]
Partitions = Annotated[
    list[int] | None,
    typer.Option("--partition", min=0, help="Only messages of these partitions.", show_default=False),
]
Since = Annotated[
    str | None,
    typer.Option(
        help="Not older: 90s, 30m, 2h, 7d, or 2026-11-21T15:00Z.", metavar="TIME", show_default=False
    ),
]
Until = Annotated[
    str | None,
    typer.Option(help="Older than that, in the same forms.", metavar="TIME", show_default=False),
]


@dlq.command("list")
@with_settings(*KAFKA, *PLACE)
def list_letters(
    loaded: Loaded,
    *,
    reason: Reasons = None,
    agent: AgentNames = None,
    partition: Partitions = None,
    since: Since = None,
    until: Until = None,
    most: Annotated[int, typer.Option("--max", min=1, help="Show so many, the newest.")] = LIST_MAX,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest last, with how many there are of each reason.

    Example:  pointsman dlq list --reason feature_error --since 2h
    """
    wanted = _wanted(None, reason, agent, partition, since, until)
    shown, counts, before = reach.run(_read(loaded.settings, wanted, most))
    found = counts.total()
    if as_json:
        rows = [_row(letter, letter.identity in before) for letter in shown]
        print_json({"found": found, "by_reason": dict(counts.most_common()), "letters": rows})
        return
    if not found:
        console().print("no dead letters" + (" match" if wanted != _wanted() else ""), markup=False)
        return
    reasons = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    title = f"{found} dead letter{'s' if found > 1 else ''}: {reasons}"
    columns = ("letter", "when (UTC)", "reason", "field", "agent", "request", "attempts", "sent again")
    rows_ = [
        (
            letter.name, f"{letter.at:%Y-%m-%d %H:%M:%S}", letter.reason, letter.field, letter.agent,
            letter.request_id, letter.attempt, _again(letter, letter.identity in before),
        )
        for letter in shown
    ]  # fmt: skip
    console().print(table(title, columns, rows_, right=("attempts",)))
    if found > len(shown):
        note(f"pointsman: the newest {len(shown)} of {found}; --max shows more")


@dlq.command("show")
@with_settings(*KAFKA, *PLACE)
def show(
    loaded: Loaded,
    *,
    letter: Annotated[str, typer.Argument(help="The letter's name, as in 2/17 (`dlq list` shows it).")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter in full: why, what was kept of it, its headers and its bytes.

    Example:  pointsman dlq show 2/17
    """
    from pointsman.streams.letters import obstacle  # noqa: PLC0415
    from pointsman.streams.redrive import TIMES_MAX  # noqa: PLC0415

    found, _, before = reach.run(_read(loaded.settings, _wanted([letter]), 1))
    if not found:
        msg = f"no dead letter {letter}"
        raise Usage(msg)
    one = found[0]
    sent = one.identity in before
    why = "it was already" if sent else obstacle(one, _names(loaded.settings), TIMES_MAX)
    if as_json:
        print_json(_row(one, sent) | _detail(one) | {"obstacle": why or None})
        return
    facts = [(name, value) for name, value in (_row(one, sent) | _detail(one)).items() if name != "value"]
    facts.append(("can be sent again", f"no: {why}" if why else "yes"))
    console().print(table(f"Dead letter {one.name}", ("what", "value"), facts))
    console().print(_text(one.value), markup=False)


@dlq.command("redrive")
@with_settings(*KAFKA, *PLACE)
def redrive(
    loaded: Loaded,
    *,
    names: Names_ = None,
    reason: Reasons = None,
    agent: AgentNames = None,
    partition: Partitions = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All letters, where nothing else says which.")
    ] = False,
    most: Annotated[int, typer.Option("--max", min=1, help="Send so many at most.")] = REDRIVE_MAX,
    force: Annotated[
        bool, typer.Option("--force", help="Also messages that came back again and again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send the messages of dead letters again, each once, to the topic and partition that they came from.

    They keep their ids. Exit 1 where a letter was refused (its bytes were not kept, or it came back too often).

    Example:  pointsman dlq redrive --reason unknown_agent --since 2h --dry-run
    """
    wanted = _wanted(names, reason, agent, partition, since, until)
    if wanted == _wanted() and not everything:
        msg = "say which letters: by name, --reason, --agent, --partition, --since, --until, or --all"
        raise Usage(msg)
    results = reach.run(_redrive(loaded.settings, wanted, most, force=force, dry=dry_run))
    counts = Counter[str](result.end for result in results)
    if as_json:
        rows = [
            {"letter": r.letter.name, "request_id": r.letter.request_id, "end": r.end, "why": r.why}
            for r in results
        ]
        print_json({"counts": dict(counts), "letters": rows})
    else:
        _show_results(results, counts)
    if counts["refused"]:
        raise typer.Exit(FAILED)


def _show_results(results: list[Result], counts: Mapping[str, int]) -> None:
    refused = [
        (r.letter.name, r.letter.reason, r.letter.request_id, r.why) for r in results if r.end == "refused"
    ]
    if refused:
        console().print(table("Refused", ("letter", "reason", "request", "why"), refused))
    text = ", ".join(f"{count} {end}" for end, count in counts.items())
    console().print(text or "no dead letters match", markup=False)


# -- what they work on ---------------------------------------------------------------------------------


def _wanted(
    names: list[str] | None = None,
    reasons: list[str] | None = None,
    agents: list[str] | None = None,
    partitions: list[int] | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Wanted:
    from pointsman.schemas.dead_letter import REASONS  # noqa: PLC0415
    from pointsman.streams.letters import Wanted  # noqa: PLC0415

    for reason in reasons or ():
        if reason not in REASONS:
            msg = f"no reason {reason!r}; there are: {', '.join(REASONS)}"
            raise Usage(msg)
    for name in names or ():
        if not re.fullmatch(r"\d+/\d+", name):
            msg = f"{name!r} names no letter; expected partition/offset, as in 2/17"
            raise Usage(msg)
    now = datetime.now(UTC)
    return Wanted(
        names=frozenset(names or ()),
        reasons=frozenset(reasons or ()),
        agents=frozenset(agents or ()),
        partitions=frozenset(partitions or ()),
        since=moment(since, now) if since else None,
        until=moment(until, now) if until else None,
    )


def moment(text: str, now: datetime) -> datetime:
    """A moment in UTC: so long before ``now``, or RFC 3339, where no offset means UTC. Raises `Usage`."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    try:
        if ago:
            return now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        msg = f"{text!r} is no time; expected as in 30m, 2h, 7d or 2026-11-21T15:00Z"
        raise Usage(msg) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _names(settings: Settings) -> Any:
    from pointsman.streams.topics import Names  # noqa: PLC0415

    return Names.of(settings)


def _redriver(settings: Settings) -> Redriver:
    from pointsman.streams.redrive import Redriver  # noqa: PLC0415

    return Redriver(
        reach.kafka(settings),
        _names(settings),
        group=settings.group,
        by=person(),
        transactional=not reach.is_embedded(settings),
    )


async def _read(
    settings: Settings, wanted: Wanted, most: int
) -> tuple[list[Letter], Counter[str], set[tuple[int, int, int]]]:
    """The newest wanted letters in the order of their times, counts of all by reason, and which were sent again."""
    from pointsman.streams.letters import letters  # noqa: PLC0415

    before = await _redriver(settings).sent_before()
    newest: list[tuple[int, int, Letter]] = []
    counts: Counter[str] = Counter()
    async for letter in letters(reach.kafka(settings), _names(settings)):
        if wanted.takes(letter):
            counts[letter.reason] += 1
            heappush(newest, (letter.at_ms, counts.total(), letter))
            if len(newest) > most:
                heappop(newest)
    return [letter for _, _, letter in sorted(newest)], counts, before


async def _redrive(settings: Settings, wanted: Wanted, most: int, *, force: bool, dry: bool) -> list[Result]:
    from pointsman.streams.redrive import TIMES_MAX  # noqa: PLC0415

    times_max = 2**31 if force else TIMES_MAX
    return await _redriver(settings).run(wanted, most=most, times_max=times_max, dry=dry)


def _row(letter: Letter, sent: bool) -> dict[str, Any]:
    return {
        "letter": letter.name,
        "at": letter.at.isoformat(),
        "reason": letter.reason,
        "field": letter.field,
        "expected": letter.expected,
        "agent": letter.agent,
        "request_id": letter.request_id,
        "attempts": letter.attempt,
        "place": f"{letter.place.topic}[{letter.place.partition}] at {letter.place.offset}",
        "times_redriven": letter.times_redriven,
        "sent_again": sent,
    }


def _detail(letter: Letter) -> dict[str, Any]:
    kept = letter.kept
    cause = letter.redriven.first_error if letter.redriven else kept.first_error if kept else None
    assigned = kept.assigned if kept else None
    return {
        "first_error": f"{cause.reason}: {cause.field}: {cause.expected}" if cause else None,
        "arm": assigned and f"{assigned.arm} (flag version {assigned.version}, {assigned.percentage:g} %)",
        "first_place": letter.redriven
        and f"partition {letter.redriven.place.partition} at {letter.redriven.place.offset}",
        "key": None if letter.key is None else _text(letter.key),
        "headers": "; ".join(f"{name}={_text(value)}" for name, value in letter.headers),
        "bytes": len(letter.value or b""),
        "value": _text(letter.value),
    }


def _again(letter: Letter, sent: bool) -> str:
    times = f"{letter.times_redriven} x before" if letter.times_redriven else ""
    return ", ".join(each for each in (times, "sent" if sent else "") if each)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "backslashreplace")
