"""Links lead somewhere, pictures are there and load nothing from elsewhere, the first page shows what it must."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.pages import anchors, links, pages
from tests.support.sources import ROOT, files, name, text

PICTURES = [path for path in files() if path.suffix == ".svg"]


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{link} leads nowhere"
        assert found.is_relative_to(ROOT), f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(found), f"{link}: no such heading"


def test_every_page_can_be_reached_from_the_first() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [
            (page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link
        ]
        waiting += [target for target in targets if target.suffix == ".md"]
    assert {name(page) for page in pages()} - {name(page) for page in seen} == set()


@pytest.mark.parametrize("path", PICTURES, ids=name)
def test_a_picture_is_whole_and_loads_nothing(path: Path) -> None:
    root = ET.fromstring(text(path))
    assert root.tag.endswith("svg")
    assert root.get("viewBox")
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text(path)))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in text(path)


def test_the_picture_of_the_flow_knows_dark_pages_and_names_what_there_is() -> None:
    picture = text(ROOT / "docs" / "images" / "flow.svg")
    assert "prefers-color-scheme: dark" in picture
    for topic in (
        "decision-requests",
        "decision-outcomes",
        "decision-feedback",
        "decision-summaries",
        "control-flags",
    ):
        assert topic in picture


def test_the_first_lines_show_what_it_is_and_how_to_see_it() -> None:
    first = "\n".join(text(ROOT / "README.md").splitlines()[:60])
    for needed in (
        "docs/images/flow.svg",
        "docs/images/demo.svg",
        "make demo",
        "make test",
        "docs/how-it-works.md",
    ):
        assert needed in first


def test_the_table_on_the_first_page_is_the_one_in_the_picture() -> None:
    words = re.compile(r"<[^>]+>")
    shown = words.sub(" ", html.unescape(text(ROOT / "docs" / "images" / "demo.svg"))).replace("\xa0", " ")
    shown = " ".join(shown.split())
    table = re.search(
        r"^ {4}[\d,]+ decisions from .*?^ {5}all .*?$", text(ROOT / "README.md"), re.MULTILINE | re.DOTALL
    )
    assert table is not None
    for line in table[0].splitlines():
        assert " ".join(line.split()) in shown, "record the picture and the table from one run"


def test_the_table_on_the_first_page_adds_up() -> None:
    """It is real output: the arms add up to all, and the difference is that of the two columns."""
    page = text(ROOT / "README.md")
    rules, model, everything = (
        int(re.search(rf"^ +{who} +{arm} +([\d,]+)", page, re.MULTILINE)[1].replace(",", ""))  # type: ignore[index]
        for who, arm in (("rules", "control"), ("model", "candidate"), ("all", "–"))
    )
    assert rules + model == everything
    for measure in ("accuracy", "balanced accuracy", "success"):
        row = re.search(rf"^ +{measure}\b[^\d]*([\d.]+) %.*?([\d.]+) %.*?([+-][\d.]+) \(", page, re.MULTILINE)
        assert row is not None
        assert float(row[2]) - float(row[1]) == pytest.approx(float(row[3]), abs=0.11)
