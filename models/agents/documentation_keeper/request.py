"""`CodeChange`: what documentation-keeper is asked about, one commit or pull request."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from pointsman.schemas.request import EventTime

FILES_MAX: Final = 1000
LINES_MAX: Final = 10_000_000
"""Far above any real change, far below what a float cannot hold exactly."""

Path = Annotated[
    str,
    Meta(min_length=1, max_length=1000, description="From the top of the repository, with forward slashes."),
]
Lines = Annotated[int, Meta(ge=0, le=LINES_MAX)]
Status = Literal["A", "M", "D", "R", "C", "T"]


class ChangedFile(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One file of a change, as ``git diff --numstat`` and ``--raw`` tell it."""

    path: Path
    added: Lines = 0
    removed: Lines = 0
    status: Status = "M"
    """Added, modified, deleted, renamed, copied, type changed."""
    previous: Path | None = None
    """Old path of a rename or copy."""
    binary: bool = False
    """Then no lines are counted."""


class CodeChange(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A change that may need documentation.

    Documentation files may be listed: they are left out before anything is computed, since whether
    they changed is what is to be decided.
    """

    repository: Annotated[str, Meta(min_length=1, max_length=200)]
    subject: Annotated[str, Meta(max_length=500, description="First line of the message.")]
    files: Annotated[list[ChangedFile], Meta(max_length=FILES_MAX)]
    body_lines: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Lines of the message after the subject."""
    author: Annotated[str, Meta(max_length=200)] | None = None
    """Any stable token for a person; not used by the features."""
    authored_at: EventTime | None = None
