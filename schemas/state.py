"""`StateEntry`: something that an agent keeps, on the compacted topic `decision-state`. Written by decision lanes alone."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class StateEntry(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A value of a unit, or what is kept of a decision until its label comes; a record without a value takes it away.

    The key is an array of five texts: agent, version of its state, ``value`` or ``note``, unit (empty for a note), and the
    agent's own key (of a note, the decision's id).
    """

    at: float
    """When it was changed, in seconds since 1970: the time of the record that changed it."""
    content: Any
    """What the agent keeps; of a value, an array of numbers and texts."""
    unit: str = ""
    """Of a note."""
