"""What success and satisfaction are made of, told to the database; and both, as the last hour and day have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct, convert
from psycopg.rows import dict_row

from pointsman.models.satisfaction import Signal, Weight
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import columns, load

if TYPE_CHECKING:
    from pointsman.models.measure import Measure

_SQL: Final = load("measures.sql")
WINDOWS: Final = {"1h": 3_600.0, "24h": 86_400.0}
"""By the minute of the decision, until now; seconds."""


class Standing(Struct, frozen=True, kw_only=True):
    """Of one agent, arm and window. A share is None where nothing is known."""

    agent: str
    arm: str
    window: str
    decisions: int
    labels: int
    success: float | None
    """Mean success of the answers served, in [0, 1]."""
    signals: int
    satisfaction: float | None
    """From 1 to 5."""


async def tell(connection: Connection, measures: Iterable[Measure], weights: Mapping[Signal, Weight]) -> None:
    """Write what is not known yet, or known otherwise; older rows stay."""
    costs = [(each.agent, each.positive, each.costs.needless, each.costs.missed) for each in measures]
    if costs:
        await connection.execute(_SQL["tell_measures"], columns(costs))
    table = [(signal, each.points, each.weight) for signal, each in weights.items()]
    await connection.execute(_SQL["tell_weights"], columns(table))


async def standings(connection: Connection) -> list[Standing]:
    """Of all agents that decided something within the longest window."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_SQL["standings"], columns(list(WINDOWS.items())))
        return [convert(row, Standing) for row in await cursor.fetchall()]
