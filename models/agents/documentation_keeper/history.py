"""Histories as a common `Commit`: what could be asked of it when it was made, and what was learned later.

Reads JSON Lines here and git repositories through `git_history`. The request never holds the truth:
documentation files are left out and documentation words masked.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import IO, Annotated, Final, cast

import msgspec
from msgspec import Meta, Struct, field

from pointsman.models.agents.documentation_keeper import paths
from pointsman.models.agents.documentation_keeper.measure import NEEDED, NOT_NEEDED
from pointsman.models.agents.documentation_keeper.request import LINES_MAX, ChangedFile, CodeChange, Status
from pointsman.models.agents.documentation_keeper.subject import mask
from pointsman.schemas.errors import PointsmanError
from pointsman.schemas.request import EventTime

FILES_MAX: Final = 200
"""Files of a commit that go into its request; a tree-wide rewrite says no more with its other thousands."""
LINE_BYTES_MAX: Final = 32 * 1024 * 1024
"""A commit of 400,000 files. A longer line, which a small compressed file may hold, is no commit."""
PATH_LETTERS_MAX: Final = 1000
"""What a request may hold of a path."""
_GZIP: Final = b"\x1f\x8b"
_Name = Annotated[str, Meta(min_length=1)]
LABEL_KINDS: Final = frozenset({"readme", "docs"})


class HistoryError(PointsmanError):
    """A history cannot be read; says which file and line, or which repository."""


class Commit(Struct, frozen=True, kw_only=True):
    """One commit that is no merge."""

    sha: str
    repository: str
    land: str
    """The commit of the main line with which it arrived: commits with one ``land`` are one pull request."""
    committed_at: datetime
    landed_at: datetime
    """When its truth is known: whether its landing unit touches a README or the docs."""
    documents: bool
    """Touches a README or the docs itself."""
    in_domain: bool
    """Touches source, and is not by a bot."""
    author: str
    request: CodeChange
    truth: str
    """`NEEDED` or `NOT_NEEDED`."""
    files_total: int
    """Before documentation was left out and the list cut at `FILES_MAX`."""
    reverts: str = ""
    """The sha of which its message says that it reverts it."""


class _File(Struct, frozen=True):
    path: _Name = field(name="p")
    added: int = field(name="a")
    removed: int = field(name="r")
    status: Status = field(name="s", default="M")
    previous: _Name | None = field(name="o", default=None)
    docstrings: tuple[int, int, int, int] = field(name="d", default=(0, 0, 0, 0))


class _Labels(Struct, frozen=True):
    dom: int
    land: list[str]
    same: list[str] = []


class _Line(Struct, frozen=True):
    repo: _Name
    sha: str
    authored_at: EventTime
    committed_at: EventTime
    author: str
    land: str
    subject: str
    body_lines: Annotated[int, Meta(ge=0)]
    n_files: int
    files: list[_File]
    y: _Labels


def read_commits(file: Path) -> Iterator[Commit]:
    """Commits of a JSON Lines file (gzip or not), in its order. Lines of a repository stand together.

    Holds one repository at a time. Raises `HistoryError`.
    """
    for _, lines in groupby(_lines(file), key=lambda line: line.repo):
        yield from _from_lines(list(lines))


def _lines(file: Path) -> Iterator[_Line]:
    decode = msgspec.json.Decoder(_Line).decode
    number = 0
    try:
        with _opened(file) as stream:
            while text := stream.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(text) > LINE_BYTES_MAX:
                    msg = f"{file}, line {number}: longer than {LINE_BYTES_MAX} bytes"
                    raise HistoryError(msg)
                if text.strip():
                    yield decode(text)
    except (
        msgspec.DecodeError, UnicodeDecodeError, RecursionError, gzip.BadGzipFile, EOFError, zlib.error
    ) as error:  # fmt: skip
        msg = f"{file}, line {number}: {error}"
        raise HistoryError(msg) from error
    except OSError as error:
        msg = f"{file}: cannot be read ({error.strerror or error})"
        raise HistoryError(msg) from error


def _opened(file: Path) -> IO[bytes]:
    """Compressed or not is told by the first two bytes, not by the name."""
    with file.open("rb") as stream:
        compressed = stream.read(2) == _GZIP
    return cast("IO[bytes]", gzip.open(file)) if compressed else file.open("rb")


def _from_lines(lines: list[_Line]) -> Iterator[Commit]:
    landed: dict[str, datetime] = {}
    for line in lines:  # merges are not in the file: the newest commit of a landing stands for it
        landed[line.land] = max(line.committed_at, landed.get(line.land, line.committed_at))
    for line in lines:
        yield Commit(
            sha=line.sha,
            repository=line.repo,
            land=line.land,
            committed_at=line.committed_at,
            landed_at=landed[line.land],
            documents=not LABEL_KINDS.isdisjoint(line.y.same),
            in_domain=bool(line.y.dom),
            author=line.author,
            request=request(
                line.repo,
                line.subject,
                (f for f in map(_code_only, line.files) if f is not None),
                body_lines=line.body_lines,
                author=line.author,
                authored_at=line.authored_at,
            ),
            truth=NEEDED if LABEL_KINDS.intersection(line.y.land) else NOT_NEEDED,
            files_total=line.n_files,
        )


def _code_only(file: _File) -> ChangedFile | None:
    """The file less its docstring lines, which belong to the label; None where nothing else changed."""
    binary = file.added < 0
    added, removed = file.added - file.docstrings[0], file.removed - file.docstrings[1]
    if not binary and any(file.docstrings) and added <= 0 and removed <= 0:
        return None
    return ChangedFile(
        path=file.path[:PATH_LETTERS_MAX],
        added=min(max(added, 0), LINES_MAX),
        removed=min(max(removed, 0), LINES_MAX),
        status=file.status,
        previous=None if file.previous is None else file.previous[:PATH_LETTERS_MAX],
        binary=binary,
    )


def request(
    repository: str,
    subject: str,
    files: Iterable[ChangedFile],
    *,
    body_lines: int,
    author: str,
    authored_at: datetime,
) -> CodeChange:
    """What may be asked about a commit: no documentation file, no documentation word, at most `FILES_MAX` files."""
    kept: list[ChangedFile] = []
    for file in files:
        old = file.previous
        if paths.counts_as_documentation(file.path) or (old and paths.counts_as_documentation(old)):
            continue
        if len(kept) == FILES_MAX:
            break
        kept.append(file)
    return CodeChange(
        repository=repository[:200],
        subject=mask(subject)[:500],
        files=kept,
        body_lines=min(body_lines, 100_000),
        author=author[:200],
        authored_at=authored_at,
    )
