"""Results name files, not where they lay."""

from __future__ import annotations

import pytest

from benchmarks.result import without_folders


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('"commits": "/some/where/commits.jsonl.gz"', '"commits": "commits.jsonl.gz"'),
        ("at unix:/some/folder-x/model.sock: {", "at unix:model.sock: {"),
        ("1,000 messages/s, p50/p95/p99, lane / bare", "1,000 messages/s, p50/p95/p99, lane / bare"),
        ("request→outcome 3/4/5", "request→outcome 3/4/5"),
    ],
)
def test_a_path_becomes_a_name_and_nothing_else_changes(text: str, left: str) -> None:
    assert without_folders(text) == left
