"""Named queries: all SQL stands in `.sql` files, each query under a line ``-- name: words``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(file: str, package: str = "pointsman.streams.store") -> dict[str, bytes]:
    """Name to text of the queries in a package's ``file``, in order; bytes, as the driver takes them."""
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return {name: sql.strip().encode() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def columns(table: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows as columns, for `unnest`; at least one row."""
    return [list(column) for column in zip(*table, strict=True)]
