"""The writes of one batch, kind by kind, inside its transaction.

Each kind has a guard table. Usually all is new, and plain COPY writes it; where a guard refuses that, the
careful way asks it key by key and writes the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.summary import Summary
from pointsman.streams.store import copyrow, minutes, rows, truths
from pointsman.streams.store.batch import DeadLetter, SinkBatch, WriteResult
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import columns, load

_SQL: Final = load("audit.sql")
_SLICE: Final = 250
"""Rows that are packed before they are sent: the server works on them meanwhile, and nothing else in this
event loop waits longer than some 2 ms."""

T = TypeVar("T")


def topics(batch: SinkBatch) -> set[str]:
    """The request topics that a batch speaks of."""
    return {
        *(outcome.place.topic for outcome in batch.outcomes),
        *(shadow.place.topic for shadow in batch.shadows),
        *(summary.ledger.topic for summary in batch.summaries if summary.ledger),
        *(letter.topic for letter in batch.dead_letters),
        *(letter.taken_topic for letter in batch.dead_letters if letter.taken_topic),
        *(
            place.topic
            for outcome in batch.outcomes
            if outcome.history
            for place in (outcome.history.taken_from, outcome.history.first_place)
            if place is not None
        ),
    }


async def copy(connection: Connection, query: str, pieces: Iterable[list[bytes]]) -> None:
    """One COPY; each piece, some packed rows, is made while the server works on the one before."""
    async with connection.cursor().copy(_SQL[query]) as stream:
        await stream.write(copyrow.HEADER)
        for piece in pieces:
            await stream.write(b"".join(piece))
        await stream.write(copyrow.TRAILER)


async def claim(connection: Connection, query: str, keys: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Of some keys those that the guard did not have; it has them now."""
    columns = [list(column) for column in zip(*dict.fromkeys(keys), strict=True)]
    cursor = await connection.execute(_SQL[query], columns, binary=True)
    return set(await cursor.fetchall())


def firsts(items: Sequence[T], keys: Sequence[tuple[Any, ...]], new: set[tuple[Any, ...]]) -> list[T]:
    """The first item of each key that is new."""
    left = set(new)
    kept = []
    for item, key in zip(items, keys, strict=True):
        if key in left:
            left.remove(key)
            kept.append(item)
    return kept


async def outcomes(
    connection: Connection,
    packer: rows.Packer,
    batch: SinkBatch,
    topic_ids: Mapping[str, int],
    result: WriteResult,
    *,
    careful: bool,
) -> list[Outcome]:
    """Outcomes into guard, audit, contents and aggregates; those that were new. The lock of their partitions is held then.

    Raises UniqueViolation if not ``careful`` enough.
    """
    pairs = list(zip(batch.outcomes, batch.trace_ids or [None] * len(batch.outcomes), strict=True))
    keys = [rows.guard(outcome, topic_ids[outcome.place.topic]) for outcome in batch.outcomes]
    if careful:
        pairs = firsts(pairs, keys, await claim(connection, "claim_places", keys))
        result.duplicates += len(keys) - len(pairs)
        if not pairs:
            return []
    else:
        await copy(connection, "copy_places", [rows.guard_rows(keys)])
    contents: list[list[bytes]] = []

    def decisions() -> Iterable[list[bytes]]:
        for start in range(0, len(pairs), _SLICE):
            piece = pairs[start : start + _SLICE]
            packed, apart = packer.decisions(piece, topic_ids)
            contents.append(apart)
            yield packed

    await copy(connection, "copy_decisions", decisions())
    await copy(connection, "copy_contents", contents)
    written = [outcome for outcome, _ in pairs]
    await _histories(connection, [outcome for outcome in written if outcome.history], topic_ids)
    await _add_minutes(connection, minutes.fold(written))
    await truths.with_outcomes(connection, written, topic_ids)
    result.outcomes += len(written)
    return written


async def _histories(connection: Connection, given: Sequence[Outcome], topic_ids: Mapping[str, int]) -> None:
    """What requests went through that were not answered at once."""
    if given:
        await connection.cursor().executemany(
            _SQL["add_history"], [rows.history_row(each, topic_ids) for each in given]
        )


async def _add_minutes(connection: Connection, added: minutes.Minutes) -> None:
    # In the order of their keys: two writers that meet in some rows wait for each other, but never in a ring.
    counters = [(*key, *values) for key, values in sorted(added.counters.items())]
    await connection.execute(_SQL["add_minutes"], columns(counters))
    for query, counts in (
        ("add_fallbacks", added.fallbacks),
        ("add_latency", added.latency),
        ("add_confidences", added.confidences),
        ("add_flags", added.flags),
    ):
        if counts:
            table = [(*key, n) for key, n in sorted(counts.items())]
            await connection.execute(_SQL[query], columns(table))
    if added.scores:
        scores = [(*key, *values) for key, values in sorted(added.scores.items())]
        await connection.execute(_SQL["add_scores"], columns(scores))


async def shadows(
    connection: Connection,
    given: Sequence[ShadowAnswer],
    topic_ids: Mapping[str, int],
    result: WriteResult,
    *,
    careful: bool,
) -> Sequence[ShadowAnswer]:
    """Shadow answers into guard and table; those that were new. The lock of their partitions is held then.

    Raises UniqueViolation if not ``careful`` enough.
    """
    kept = given
    if careful:
        keys = [rows.shadow_guard(shadow, topic_ids[shadow.place.topic]) for shadow in given]
        kept = firsts(given, keys, await claim(connection, "claim_shadow_places", keys))
        result.duplicates += len(given) - len(kept)
    guards, packed = rows.shadow_rows(kept, topic_ids)
    if not careful:
        await copy(connection, "copy_shadow_places", [guards])
    await copy(connection, "copy_shadows", [packed])
    await truths.with_shadows(connection, kept, topic_ids)
    result.shadows += len(kept)
    return kept


async def ledgers(
    connection: Connection, summaries: Sequence[Summary], topic_ids: Mapping[str, int], result: WriteResult
) -> None:
    """The ledgers of some summaries."""
    table = [
        (
            summary.lane, topic_ids[ledger.topic], ledger.partition, ledger.start, ledger.end, ledger.requests,
            ledger.outcomes, ledger.pending, ledger.dead_letters, ledger.duplicates, ledger.retrying,
        )
        for summary in summaries
        if (ledger := summary.ledger) is not None
    ]  # fmt: skip
    new = await _add(connection, "add_ledgers", table)
    result.ledgers += new
    result.duplicates += len(table) - new


async def dead_letters(
    connection: Connection, letters: Sequence[DeadLetter], topic_ids: Mapping[str, int], result: WriteResult
) -> None:
    """Places and reasons of dead letters."""
    table = [
        (
            topic_ids[letter.topic], letter.partition, letter.offset, letter.attempt,
            copyrow.clean(letter.reason), copyrow.clean(letter.field), copyrow.clean(letter.expected),
            topic_ids[letter.taken_topic] if letter.taken_topic else None, letter.taken_offset,
        )
        for letter in letters
    ]  # fmt: skip
    new = await _add(connection, "add_dead_letters", table)
    result.dead_letters += new
    result.duplicates += len(table) - new


async def _add(connection: Connection, query: str, table: Sequence[tuple[Any, ...]]) -> int:
    """Rows that were new. One statement: where each costs 30 ms, 500 would not end within a batch's deadline."""
    if not table:
        return 0
    return (await connection.execute(_SQL[query], columns(table))).rowcount
