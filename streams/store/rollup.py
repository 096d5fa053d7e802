"""The roll-up: shards of minutes that are over become one row, and are added to their hour, exactly once.

Each partition writes shards of its own, so that writers never wait for each other; a reader has to add them up, and of
64 partitions there are about as many rows as decisions. Here they are merged: taken away, and added to the merged row of
their minute and to the kept sums of their hour, in one statement. What comes late is a shard again, and merged in turn.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from pointsman.streams.store import minutes, truth
from pointsman.streams.store.pool import Connection, value
from pointsman.streams.store.queries import load

_SQL: Final = load("rollup.sql")
MERGED: Final = -1
"""The shard of merged rows; partitions count from 0."""
AFTER_S: Final = 300.0
"""Minutes younger than this are still written: merging them would be for nothing, though right."""
ROWS_MAX: Final = 20_000
"""Of a transaction: some tenths of a second, for which a writer of the same rows may wait."""


class Table(Struct, frozen=True):
    """A table by minute and shard, and that of its hours; ``keys`` and ``counts``: their columns besides agent, time and arm."""

    shards: str
    sums: str
    keys: tuple[str, ...] = ()
    counts: tuple[str, ...] = ("decisions",)

    def query(self, name: str) -> bytes:
        """A query of `rollup.sql` with the names of this table."""
        same = ("agent_name", "minute", "arm", "shard", *self.keys)
        return (
            _SQL[name]
            .decode()
            .format(
                shards=self.shards,
                sums=self.sums,
                keys="".join(f", {key}" for key in self.keys),
                counts=", ".join(self.counts),
                same=" AND ".join(f"stored.{key} = taken.{key}" for key in same),
                summed=", ".join(f"sum({each})" for each in self.counts),
                added=", ".join(f"{each} = stored.{each} + excluded.{each}" for each in self.counts),
            )
            .encode()
        )


TABLES: Final = (
    Table("decision_minute_shards", "decision_hour_sums", counts=minutes.COUNTERS),
    Table("decision_fallback_shards", "decision_fallback_hour_sums", ("reason",)),
    Table("decision_latency_shards", "decision_latency_hour_sums", ("bucket",)),
    Table("decision_truth_shards", "decision_truth_hour_sums", counts=truth.COUNTERS),
    Table("decision_label_shards", "decision_label_hour_sums", ("label", "served", "rules", "ml")),
    Table(
        "decision_score_shards", "decision_score_hour_sums", ("answer", "said"), ("decisions", "score_sum_e6")
    ),
    Table("decision_confidence_shards", "decision_confidence_hour_sums", ("band",)),
    Table("decision_flag_shards", "decision_flag_hour_sums", ("flag_version", "flag_percentage")),
    Table("decision_shadow_shards", "decision_shadow_hour_sums", counts=("answers", "agreements")),
)


async def roll_up(connection: Connection, table: Table, *, after_s: float, most: int) -> int:
    """Merges the oldest shards of a table, at most ``most`` of those older than ``after_s``. Returns how many.

    As many as ``most`` mean that there are more. 0 also while another worker is at it.
    """
    async with connection.transaction():
        if not await value(connection, _SQL["alone"]):
            return 0
        since = "-infinity"
        if await value(connection, _SQL["has_chunks"]):
            since = await value(connection, table.query("compressed_until"))
        values = {"since": since, "after_s": after_s, "most": most}
        found = await connection.execute(table.query("span"), values)
        row = await found.fetchone()
        assert row is not None, "counts are one row"
        rows, since, until = row
        if not rows:
            return 0
        span = {"since": since, "until": until, "most": most}
        return int(await value(connection, table.query("merge"), span))


async def forget(connection: Connection, days: int) -> None:
    """Deletes kept hours older than so many days whose minutes are gone."""
    for table in TABLES:
        await connection.execute(table.query("forget"), {"days": days})
