"""`Flag`: a named percentage of traffic for the `ml` arm, on compacted topic `control-flags`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from pointsman.schemas.request import Moment

FlagName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9._-]{0,99}$(?!\n)")]
Percentage = Annotated[float, Meta(ge=0, le=100)]


class Flag(Struct, frozen=True, kw_only=True):
    """A flag's current value. The record's key is ``name``; an unset flag counts as 0."""

    name: FlagName
    percentage: Percentage
    version: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    """Rises by one with each change."""
    seed: Annotated[str, Meta(min_length=1, max_length=64)]
    """Drawn when the flag is first set, then kept: it makes the sticky split monotone."""
    changed_at: Moment
    changed_by: str
    why: str = ""
    schema_version: int = 1
