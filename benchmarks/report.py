"""All results files to the tables and the picture of docs/performance.md. What was not measured is said to be so.

python -m benchmarks.report
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import figures, safety
from benchmarks.picture import picture
from benchmarks.result import RESULTS

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
PICTURE: Final = PAGE.parent / "images" / "throughput.svg"
BEGIN: Final = "<!-- {}: written by python -m benchmarks.report -->"
END: Final = "<!-- end of {} -->"
NOT_MEASURED: Final = "not measured"
APART: Final = frozenset({"check"})
"""Files that are no results of their own: what `make bench-check` compares with."""

Results = Mapping[str, dict[str, Any]]


def main() -> None:
    """Read the results, write page and picture."""
    results = everything()
    page = PAGE.read_text(encoding="utf-8")
    page = between(page, "figures", promised(results))
    page = between(page, "throughput", throughput(results))
    PAGE.write_text(page, encoding="utf-8")
    print(f"written: {PAGE}")
    if "throughput" in results:
        PICTURE.write_text(picture(results["throughput"]["details"]["runs"]), encoding="utf-8")
        print(f"written: {PICTURE}")


def everything() -> dict[str, dict[str, Any]]:
    """The results files, and what the record of `make chaos` says."""
    safe = safety.result()
    return read(RESULTS) | ({"chaos": safe} if safe else {})


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Name to content of every results file."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    }
    return {name: content for name, content in found.items() if name not in APART}


def between(page: str, name: str, content: str) -> str:
    """The page with what stands between the markers of a name replaced. Raises ValueError where they are missing."""
    begin, end = BEGIN.format(name), END.format(name)
    before, opened, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        msg = f"the page has no place for {name}"
        raise ValueError(msg)
    return f"{before}{begin}\n\n{content}\n{end}{after}"


def promised(results: Results) -> str:
    """The table of what is promised: every line, filled or said to be not measured, then where it was measured."""
    rows = [
        "| what | at least | aim | measured: median (least to greatest) | verdict |",
        "|---|---|---|---|---|",
    ]
    shown: list[tuple[str, str]] = []
    for line in figures.TABLE:
        found = line.of(results[line.file]["rows"]) if line.file in results else []
        bounds = (_bound(line.better, line.at_least, line.unit), _bound(line.better, line.aim, line.unit))
        if not found:
            rows.append(_cells(line.says, *bounds, NOT_MEASURED, "–"))
        for row in found:
            shown.append((line.file, row["what"]))
            says = line.says if row["what"] == line.says else f"{line.says}: {row['what']}"
            rows.append(_cells(says, *bounds, _measured(row), verdict(row)))
    for name, content in results.items():
        for row in content["rows"]:
            if row["at_least"] is not None and (name, row["what"]) not in shown:
                edges = [_bound(row["better"], row[edge], row["unit"]) for edge in ("at_least", "aim")]
                rows.append(_cells(f"{name}: {row['what']}", *edges, _measured(row), verdict(row)))
    return "\n".join([*rows, "", *_places(results)])


def _places(results: Results) -> list[str]:
    lines = []
    for name, content in results.items():
        if name == "chaos":
            lines.append(safety.says(content["details"]))
            continue
        at = content["machine"]
        lines.append(f"- {name}: {at['at']}, {at['cpus']} processors, Python {at['python']}, {at['system']}")
        for reason in content["details"].get("noise", []):
            lines.append(f"  - the machine was noisy: {reason}")
    return [*lines, ""] if lines else []


def throughput(results: Results) -> str:
    """Every contender's rate, CPU and ratio to the bare loop."""
    if "throughput" not in results:
        return f"Throughput: {NOT_MEASURED}.\n"
    content = results["throughput"]
    rows = {row["what"]: row for row in content["rows"]}
    lines = [f"![Messages a second and CPU a message of every contender](images/{PICTURE.name})", ""]
    lines += ["| contender | messages/s | CPU µs a message | over the bare loop |", "|---|---|---|---|"]
    for name, says in content["details"]["contenders"].items():
        own = [
            rows[what]
            for what in rows
            if what.startswith(f"{name}: ") or what == f"{name} over the bare loop"
        ]
        cells = {row["unit"]: _span(row) for row in own}
        lines.append(_cells(f"`{name}`: {says}", cells["messages/s"], cells["µs"], cells.get("×", "1")))
    lines += ["", *_like_with_like(rows), ""]
    plan = content["details"]["plan"]
    said = (
        f"{plan['messages']:,} requests of {content['details']['bytes_mean']:,.0f} bytes on average, "
        f"{plan['partitions']} partitions, {plan['runs']} rounds, {plan['percent']:g} % of the requests to the model."
    )
    return "\n".join([*lines, "", said, ""])


def _like_with_like(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Our lane over each of the others at the same work: what was asked is the row, who the column."""
    lines = [
        "The lane's rate over the others' at the same work:",
        "",
        "| lane over | bare loop | confluent-kafka | Quix Streams | Faust | Kafka Streams |",
        "|---|---|---|---|---|---|",
    ]
    for work, (ours, others) in figures.LIKE_WITH_LIKE.items():
        cells = []
        for family in ("bare", "confluent", "quix", "faust", "kafka_streams"):
            whats = [figures.like_with_like(ours, each) for each in others if each.startswith(family)]
            cells.append(_span(rows[whats[0]]) if whats and whats[0] in rows else "–")
        lines.append(_cells(work, *cells))
    return lines


def verdict(row: Mapping[str, Any]) -> str:
    """What the median says of the bounds."""
    if _reaches(row, row["aim"]):
        return "aim reached"
    return "holds" if _reaches(row, row["at_least"]) else "**missed**"


def _reaches(row: Mapping[str, Any], bound: float | None) -> bool:
    if bound is None:
        return False
    return bool(row["median"] >= bound if row["better"] == "higher" else row["median"] <= bound)


def _measured(row: Mapping[str, Any]) -> str:
    return f"{_span(row)} {_unit(row['unit'])}".strip()


def _span(row: Mapping[str, Any]) -> str:
    return f"{number(row['median'])} ({number(row['least'])} to {number(row['greatest'])})"


def _bound(better: str, value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if better == "lower" and value == 0:
        return "0"
    return f"{'≥' if better == 'higher' else '≤'} {number(value)} {_unit(unit)}".strip()


def _unit(unit: str) -> str:
    return "×" if unit == "x" else unit


def number(value: float) -> str:
    """Three figures, or whole thousands with separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
