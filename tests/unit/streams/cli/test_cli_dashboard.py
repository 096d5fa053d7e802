"""`pointsman dashboard`: what cannot be is refused in one line that names the option."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pointsman.streams.cli.dashboard import span


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--last", "6"), "--last"),
        (("--last", "0h"), "--last"),
        (("--last", "999999d"), "--last"),
        (("--of", "everything"), "--of"),
        (("--agent", "No Agent"), "--agent"),
        (("--prometheus", "file:///etc/passwd"), "--prometheus"),
    ],
)
def test_an_option_that_cannot_be_is_named(
    pointsman: Callable[..., Any], words: tuple[str, ...], named: str
) -> None:
    ran = pointsman("dashboard", "page", *words)
    assert ran.code == 2
    assert named in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(
    pointsman: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ran = pointsman("dashboard", "grafana", "--out", str(tmp_path / "file" / "below"))
    assert ran.code == 2
    assert "cannot be written" in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_spans_are_minutes_hours_and_days() -> None:
    assert [span(each) for each in ("30m", "6h", "7d")] == [
        timedelta(minutes=30), timedelta(hours=6), timedelta(days=7),
    ]  # fmt: skip
