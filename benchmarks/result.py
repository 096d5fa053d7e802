"""What a benchmark leaves behind: rows with medians and spread, and the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured figure: median, least and greatest of its runs."""

    what: str
    unit: str
    median: float
    least: float
    greatest: float
    runs: int
    better: Literal["higher", "lower"]
    at_least: float | None = None
    """The bound that must hold, None where nothing is promised."""
    aim: float | None = None

    @classmethod
    def of(cls, what: str, unit: str, values: Sequence[float], *, better: str, **bounds: float | None) -> Row:
        """From the figures of single runs; a ratio is taken run by run before it comes here."""
        middle, low, high = statistics.median(values), min(values), max(values)
        return cls(what, unit, middle, low, high, len(values), better, **bounds)  # type: ignore[arg-type]


def write(name: str, rows: Sequence[Row], details: dict[str, Any], out: Path | None = None) -> Path:
    """Rows and details as `results/NAME.json`, with machine, versions and date; returns the path."""
    path = out or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "machine": machine(), "rows": [asdict(row) for row in rows], "details": details}
    path.write_text(without_folders(json.dumps(content, indent=2)) + "\n")
    return path


def without_folders(text: str) -> str:
    """File names in the place of paths: where they lay on one machine says nothing elsewhere."""
    return re.sub(r"(?<![\w./-])(?:/[\w.+-]+)+/(?=[\w.+-])", "", text)


def machine() -> dict[str, Any]:
    """Where and when: a figure without them says nothing."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
    }
