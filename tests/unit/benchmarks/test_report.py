"""The page says what the results say; what nobody measured is said to be so, and nothing is lost on the way."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figures, report
from benchmarks.__main__ import PARTS, chosen
from benchmarks.picture import picture
from benchmarks.result import Row, write
from benchmarks.throughput import Measured, Plan, Run, rows

RUNS = {
    name: [Run(1000, wall_s, 0.01 * wall_s, model_cpu_s=0.001)] * 3
    for name, wall_s in {"bare": 0.02, "lane": 0.01, "kafka_streams": 0.005, "lane_rules": 0.008}.items()
}
MEASURED = Measured(Plan(1000, 1000, 3, 4, 50.0, None), 650.0, RUNS)


@pytest.fixture
def results(tmp_path: Path) -> dict[str, dict[str, Any]]:
    write("throughput", rows(MEASURED), MEASURED.details(), tmp_path / "throughput.json")
    return report.read(tmp_path)


def lines(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")][2:]


def test_without_results_every_line_is_not_measured() -> None:
    shown = lines(report.promised({}))
    assert [row[0] for row in shown] == [line.says for line in figures.TABLE]
    assert {row[3] for row in shown} == {"not measured"}


def test_measured_lines_are_filled_and_the_others_are_not(results: dict[str, dict[str, Any]]) -> None:
    shown = {row[0]: row[1:] for row in lines(report.promised(results))}
    assert shown[figures.OVER_BARE.says] == ["≥ 1 ×", "≥ 1.2 ×", "2 (2 to 2) ×", "aim reached"]
    assert shown[figures.OVER_KAFKA_STREAMS.says][2:] == ["0.5 (0.5 to 0.5) ×", "holds"]
    assert shown[figures.OVER_FAUST.says][2:] == ["not measured", "–"]


def test_a_line_with_several_sizes_has_a_row_for_each() -> None:
    line = next(each for each in figures.TABLE if each.file == "growth")
    bounds = {"at_least": line.at_least, "aim": line.aim}
    grown = [Row.of(f"to {n} partitions", "x", [0.7], better="higher", **bounds) for n in (16, 64)]
    content = {"rows": [asdict(row) for row in grown], "machine": machine(), "details": {}}
    shown = [row for row in lines(report.promised({"growth": content})) if row[0].startswith(line.says)]
    assert [row[0].removeprefix(line.says) for row in shown] == [": to 16 partitions", ": to 64 partitions"]
    assert {row[4] for row in shown} == {"**missed**"}


def test_a_bound_that_the_table_does_not_know_is_shown_too() -> None:
    row = Row.of("outcome to row", "s", [3.0], better="lower", at_least=10.0, aim=2.0)
    content = {"rows": [asdict(row)], "machine": machine(), "details": {"noise": ["a neighbour"]}}
    text = report.promised({"sinks": content})
    assert lines(text)[-1] == ["sinks: outcome to row", "≤ 10 s", "≤ 2 s", "3 (3 to 3) s", "holds"]
    assert "- sinks: 2026-01-01T00:00:00+00:00, 2 processors, Python 3.11.2, Linux" in text.splitlines()
    assert "noisy: a neighbour" in text


def machine() -> dict[str, Any]:
    return {"at": "2026-01-01T00:00:00+00:00", "cpus": 2, "python": "3.11.2", "system": "Linux"}


def test_every_contender_that_ran_stands_in_the_table(results: dict[str, dict[str, Any]]) -> None:
    text = report.throughput(results)
    contenders = lines(text)[: len(RUNS)]
    assert [row[0].split("`")[1] for row in contenders] == list(RUNS)
    rate, cpu, over = contenders[1][1:]
    assert (rate, over) == ("100,000 (100,000 to 100,000)", "2 (2 to 2)")
    assert cpu == "1.1 (1.1 to 1.1)"
    assert "| rules only | – | – | – | – | 0.625 (0.625 to 0.625) |" in text
    assert "| rules and model | – | – | – | – | – |" in text


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"before\n{report.BEGIN.format('x')}\nold\n{report.END.format('x')}\nafter\n"
    once = report.between(page, "x", "new")
    assert once == f"before\n{report.BEGIN.format('x')}\n\nnew\n{report.END.format('x')}\nafter\n"
    assert report.between(once, "x", "new") == once
    with pytest.raises(ValueError, match="no place for y"):
        report.between(page, "y", "new")


def test_the_page_shows_the_results_that_are_committed() -> None:
    """A result without its report, or a figure written by hand, fails here."""
    page = report.PAGE.read_text(encoding="utf-8")
    results = report.everything()
    assert report.between(page, "figures", report.promised(results)) == page
    assert report.between(page, "throughput", report.throughput(results)) == page


def test_the_picture_is_whole_and_has_every_contender(results: dict[str, dict[str, Any]]) -> None:
    drawn = picture(results["throughput"]["details"]["runs"])
    root = ET.fromstring(drawn)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in RUNS] == ["bare", "kafka_streams", "lane_rules", "lane"]
    assert "prefers-color-scheme: dark" in drawn


def test_parts_that_exist_take_part() -> None:
    assert chosen("")[:2] == ["run", "check"]
    assert set(chosen("")) <= set(PARTS)
    assert chosen("check") == ["check"]
    with pytest.raises(SystemExit, match="no part coffee"):
        chosen("coffee")
