"""The flame picture: what belongs together is together, widths are shares, and nothing of a name becomes markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from benchmarks.flame import Frame, draw, read

STACKS = [
    "run (lib/asyncio/base.py:10);serve (pointsman/streams/partition.py:1);work (pointsman/streams/work.py:5) 30",
    "run (lib/asyncio/base.py:10);serve (pointsman/streams/partition.py:2);work (pointsman/streams/work.py:9) 30",
    "run (lib/asyncio/base.py:12);serve (pointsman/streams/partition.py:2);<genexpr> (a/b/c.py:9) 30",
    "run (lib/asyncio/base.py:12) 10",
]


def test_lines_of_one_function_are_one_frame() -> None:
    root = read(STACKS)
    (run,) = root.called.values()
    assert (root.count, run.count, root.depth) == (100, 100, 4)
    (serve,) = run.called.values()
    assert serve.count == 90
    assert {each.name: each.count for each in serve.called.values()} == {
        "work (streams/work.py)": 60,
        "<genexpr> (b/c.py)": 30,
    }


def test_below_leaves_out_what_is_under_a_frame_and_loses_no_sample() -> None:
    root = read(STACKS, "serve")
    assert root.count == 100
    assert {each.name: each.count for each in root.called.values()} == {
        "work (streams/work.py)": 60,
        "<genexpr> (b/c.py)": 30,
        "run (asyncio/base.py)": 10,
    }


def test_widths_are_shares_and_the_narrow_is_cut() -> None:
    picture = ET.fromstring(draw(read(STACKS), "a <title>", cut=20))
    boxes = {}
    for group in picture.iter("{http://www.w3.org/2000/svg}g"):
        title, box = group[0].text or "", group[1]
        boxes[title] = float(box.attrib["width"])
    shares = {title: float(re.findall(r"([\d.]+) %", title)[0]) for title in boxes}
    assert max(abs(boxes[title] - 12 * share) for title, share in shares.items()) < 1
    assert [title for title in boxes if title.startswith("<genexpr>")]
    assert len(ET.fromstring(draw(read(STACKS), "", cut=50)).findall(".//{*}g")) == len(boxes) - 1


def test_what_is_no_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="no stack"):
        read(["run (a.py:1)"])


def test_a_frame_without_calls_is_one_row() -> None:
    assert Frame("x").depth == 1
