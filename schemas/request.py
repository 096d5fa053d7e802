"""`DecisionRequest`: what a producer asks for, on topic `decision-requests`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from pointsman.schemas.errors import InvalidMessage

Id = Annotated[
    str, Meta(min_length=1, max_length=200, description="Chosen by the producer; letters of any kind.")
]
Unit = Annotated[
    str,
    Meta(
        min_length=1, max_length=200, description="What a split is sticky on: a user, a repository, a tenant."
    ),
]
AGENT_NAME: Final = r"^[a-z][a-z0-9-]{0,62}$(?!\n)"
AgentName = Annotated[str, Meta(pattern=AGENT_NAME, description="Name of the agent that is asked.")]
Asked = Annotated[
    str,
    Meta(
        max_length=63,
        description="Name of the agent that is asked.",
        extra_json_schema={"pattern": AGENT_NAME},
    ),
]
"""An `AgentName` by contract. Decoding does not match the pattern, which takes as long as all the rest of a request:
whoever looks the agent up finds none, and then says why (`check_name`)."""
EventTime = Annotated[
    datetime,
    Meta(tz=True, description="RFC 3339 with an offset: the event's own time, which may lie in the past."),
]

Moment = Annotated[
    datetime, Meta(tz=True, description="RFC 3339, in UTC: the wall clock of whoever wrote it.")
]
Object = Annotated[Raw, Meta(description="A JSON object.", extra_json_schema={"type": "object"})]
"""Bytes that are passed on as they are."""


class DecisionRequest(Struct, frozen=True, kw_only=True, gc=False):
    """A decision to be made.

    The record's key is ``unit`` where there is one, else ``id``: so all requests and all feedback
    of a unit meet in one partition. ``input`` is the agent's own contract and checked against it.
    """

    id: Id
    agent: Asked
    input: Object
    unit: Unit | None = None
    requested_at: EventTime | None = None
    reply_to: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    schema_version: Annotated[int, Meta(ge=1)] = 1


def check_name(agent: str) -> None:
    """Raises `InvalidMessage` where a name cannot be an agent's."""
    if not re.match(AGENT_NAME, agent):
        raise InvalidMessage("wrong_type", "agent", f"a name like docs-keeper ({AGENT_NAME}), not {agent!r}")
