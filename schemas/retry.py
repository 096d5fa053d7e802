"""What travels with a request that is tried again (`Kept`) or sent again (`Redriven`), and the record of the latter.

Both are JSON in a header; key, value and the sender's own headers stay as they were received.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from pointsman.schemas.outcome import Arm, Cause, Place
from pointsman.schemas.request import Moment

HEADER_KEPT: Final = "pointsman-kept"
HEADER_REDRIVEN: Final = "pointsman-redriven"

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Assigned(Struct, frozen=True, kw_only=True):
    """What the split assigned at the first attempt that came so far; it stays, whatever the flag says later."""

    arm: Arm
    percentage: Annotated[float, Meta(ge=0, le=100)]
    version: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    """Of the flag at that moment; 0: it was never set."""


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header `pointsman-kept`: on a record of a delay topic, and on the dead letter that may come of it."""

    attempt: Count
    """On a delay topic: the attempt that is to come. On a dead letter: the last one."""
    place: Place
    """Where the request lay; an outcome has this place, however often the request was tried."""
    requested_ms: int
    """Time of the request's record, in milliseconds since 1970: latency counts from it."""
    first_error: Cause
    due_ms: int | None = None
    """When the attempt is due by the clock of whoever wrote this; for people."""
    assigned: Assigned | None = None
    """Null while there was no agent to be split for."""
    taken_from: Place | None = None
    """On a dead letter: where it lay in the delay topic that the last attempt took it from."""


class Redriven(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header `pointsman-redriven`: on a request that was sent again from the dead letters."""

    count: Count
    """How often, this time included."""
    place: Place
    """Where the request lay when it was first sent."""
    letter: Place
    """The dead letter that it was made from."""
    first_error: Cause
    """Why it became a dead letter; if it was tried again before, why its first attempt failed."""
    assigned: Assigned | None = None


class Redrive(Struct, frozen=True, kw_only=True):
    """A dead letter that was sent again, on topic `decision-redrives`: none is sent twice by mistake."""

    letter: Place
    letter_ms: int
    """Time of the letter's record: tells it from one at the same place of a topic that was made anew."""
    to: str
    """The topic that it was sent to; its partition is the request's first one."""
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    reason: str
    count: Count
    redriven_at: Moment
    redriven_by: str
    schema_version: int = 1
