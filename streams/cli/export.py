"""`audit export`: the decisions of a window, with everything about them, in a file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final

import typer

from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import Usage
from pointsman.streams.cli.options import DATABASE, PLACE, with_settings
from pointsman.streams.cli.out import note
from pointsman.streams.settings import Loaded, Settings

if TYPE_CHECKING:
    from pointsman.streams.store.export import Window

MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)")
"""RFC 3339; seconds may be left out."""
NO_PYARROW: Final = (
    "Parquet needs pyarrow: `pip install 'pointsman[parquet]'`, or take --format csv, which needs nothing"
)
STANDARD_OUTPUT: Final = "-"


class Format(StrEnum):
    """Forms of an export."""

    CSV = "csv"
    PARQUET = "parquet"


@with_settings(*DATABASE, *PLACE)
def export(
    loaded: Loaded,
    *,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Decided then or later: 2026-11-01T00:00:00Z.")
    ],
    until: Annotated[
        str, typer.Option("--to", metavar="TIME", help="Decided before that, in the same form.")
    ],
    out: Annotated[str, typer.Option(metavar="FILE", help="A file, or - for standard output.")],
    form: Annotated[Format, typer.Option("--format", help="Parquet needs the extra pointsman[parquet].")] = (
        Format.CSV
    ),
    agent: Annotated[
        str | None, typer.Option(help="Only this agent's decisions.", show_default=False)
    ] = None,
    known_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what was known then: decisions, shadow answers and feedback that came by this moment.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the decisions of a window with everything about them: input, features, both answers, versions, feedback.

    Needs little memory, however many there are. A file has its name once it is complete.

    Example:  pointsman audit export --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --format parquet --out november.parquet
    """
    window = _window(since, until, agent, known_at)
    if form is Format.PARQUET:
        _need_pyarrow()
    if out == STANDARD_OUTPUT:
        if form is Format.PARQUET and sys.stdout.isatty():
            msg = "--out -: Parquet is no text for a terminal; name a file, or send it on"
            raise Usage(msg)
        rows = reach.run(_export(loaded.settings, window, form, sys.stdout.buffer))
        sys.stdout.buffer.flush()
    else:
        with complete(Path(out)) as file:
            rows = reach.run(_export(loaded.settings, window, form, file))
    note(f"pointsman: {rows:,} decisions{'' if out == STANDARD_OUTPUT else f' in {out}'}")


async def _export(settings: Settings, window: Window, form: Format, out: BinaryIO) -> int:
    from pointsman.streams.store import export as exports  # noqa: PLC0415

    write = exports.to_parquet if form is Format.PARQUET else exports.to_csv
    async with reach.database(settings) as connection:
        return await write(connection, window, out)


def _window(since: str, until: str, agent: str | None, known_at: str | None) -> Window:
    from pointsman.streams.store.export import Window  # noqa: PLC0415

    by = None if known_at is None else moment("--known-at", known_at)
    found = Window(moment("--from", since), moment("--to", until), agent, by)
    if found.since >= found.before:
        msg = f"--from {since} is not before --to {until}: the window holds nothing"
        raise Usage(msg)
    return found


def moment(option: str, text: str) -> datetime:
    """A moment in RFC 3339 with its offset. Raises `Usage` that names the option."""
    with suppress(ValueError):  # a thirteenth month is as wrong as no time at all
        if MOMENT.fullmatch(text):
            return datetime.fromisoformat(text)
    msg = f"{option} {text}: expected a time with its offset, as in 2026-11-01T00:00:00Z or 2026-11-01T01:00:00+01:00"
    raise Usage(msg)


def _need_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise Usage(NO_PYARROW) from error
    del pyarrow


@contextmanager
def complete(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name once it is complete, and leaves nothing behind where it is not. Raises `Usage`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:  # no such folder, no right, a folder of that name, a full disk
        msg = f"--out {path}: cannot be written: {error.strerror}"
        raise Usage(msg) from error
    finally:
        part.unlink(missing_ok=True)
