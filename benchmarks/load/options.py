"""What the measurements have in common: options of the command line, and the table that they print."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.result import Row, write


def parser(text: str | None) -> argparse.ArgumentParser:
    """With the options that every measurement has; ``text`` is its module's docstring."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a short form: whether it works, not how fast")
    made.add_argument("--out", type=Path, help="default: benchmarks/results/NAME.json")
    made.add_argument("--commits", type=Path, help="commit file; default: the git history here")
    return made


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options, as they stand in a result: of a file its name, since its folder says nothing elsewhere."""
    found = {name: value for name, value in vars(options).items() if name != "out"}
    return {name: value.name if isinstance(value, Path) else value for name, value in found.items()}


def finish(name: str, rows: Sequence[Row], details: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the table and write the file."""
    table = Table(title=name)
    for column in ("what", "unit", "median", "least to greatest", "runs", "bound", "aim", "verdict"):
        table.add_column(column, justify="left" if column in ("what", "unit", "verdict") else "right")
    for row in rows:
        edges = [_figure(row.at_least), _figure(row.aim)]
        reach = f"{_figure(row.least)} to {_figure(row.greatest)}"
        table.add_row(row.what, row.unit, _figure(row.median), reach, str(row.runs), *edges, verdict(row))
    Console(width=160).print(table)
    path = write(name, rows, {"options": given(options)} | details, options.out)
    print(f"written to {path}")


def verdict(row: Row) -> str:
    """Whether the median reaches the bound and the aim."""
    reached = [
        word
        for word, edge in (("bound", row.at_least), ("aim", row.aim))
        if edge is not None and (row.median >= edge if row.better == "higher" else row.median <= edge)
    ]
    if "aim" in reached:
        return "aim reached"
    if "bound" in reached:
        return "bound held"
    return "" if row.at_least is None else "MISSED"


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
