"""The Markdown pages, cut up: blocks, inline code, links, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.sources import files, name, text

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block: ``words`` stand behind its fence, as in ``python agent``."""

    page: Path
    line: int
    words: tuple[str, ...]
    content: str

    @property
    def language(self) -> str:
        """The first word, or nothing."""
        return self.words[0] if self.words else ""

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def pages() -> list[Path]:
    """Every Markdown file of the repository."""
    return [path for path in files() if path.suffix == ".md"]


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of these languages, of all pages."""
    return [block for page in pages() for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    content = text(page)
    for match in _FENCE.finditer(content):
        yield Block(page, content.count("\n", 0, match.start()) + 1, tuple(match[1].split()), match[2])


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text(page))


def inline(page: Path) -> list[str]:
    """What stands between single backticks."""
    return _INLINE.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as web pages make them: lower case, hyphens for spaces."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text(page))
    }


def links(page: Path) -> list[str]:
    """Targets of links and pictures."""
    return _LINK.findall(_INLINE.sub("", prose(page)))


def table(page: Path, first: str) -> list[list[str]]:
    """Rows of the table whose first column is called ``first``, without its head."""
    rows: list[list[str]] = []
    found = False
    for line in text(page).splitlines():
        cells = (
            [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else None
        )
        if found and cells is None:
            return rows[1:]
        if found and cells is not None:
            rows.append(cells)
        found = found or (cells is not None and cells[0] == first)
    return rows[1:]
