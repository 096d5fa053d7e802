"""What commands print: tables for people, JSON for scripts. Rich is imported when something is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH: Final = 120

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def console(*, stderr: bool = False) -> Console:
    """A console that knows whether a person looks at it."""
    from rich.console import Console  # noqa: PLC0415

    seen = (sys.stderr if stderr else sys.stdout).isatty()
    # A pipe has no width; tables fold at this one, plain lines not at all.
    width = None if seen or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=stderr, highlight=False, soft_wrap=not seen, width=width)


def print_json(value: Any) -> None:
    """A value as indented JSON on standard output."""
    import orjson  # noqa: PLC0415

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    sys.stdout.write(orjson.dumps(value, option=options, default=_default).decode())
    sys.stdout.flush()


def _default(value: Any) -> Any:
    import msgspec  # noqa: PLC0415

    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else str(value)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()
) -> Table:
    """A table for people; columns named in ``right`` hold numbers."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # Text: an id or a name with brackets in it is no markup.
    named = Text(title, style="bold") if title else None
    made = Table(title=named, box=box.SIMPLE_HEAD, title_justify="left", title_style="", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(shown(cell)) for cell in row))
    return made


def shown(value: Any) -> str:
    """A cell's text: nothing is a dash, numbers keep what can be read."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def note(text: str) -> None:
    """A remark for people, beside the output."""
    sys.stderr.write(f"{text}\n")
