"""What is known of decisions later, brought together with them: whichever comes first, each is counted once.

Three writers meet here: feedback, outcomes (for feedback that came before them) and shadow answers (for labels that came
before them). They take the lock of the decisions' partition, so that none overlooks what another is about to commit.
Feedback that was sent with another key than its request lies in another partition, and is under another lock: a sweep
looks again for what found no decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.outcome import Place as Request
from pointsman.streams.store.copyrow import clean
from pointsman.streams.store.pool import Connection
from pointsman.streams.store.queries import columns, load
from pointsman.streams.store.truth import Added, Name, Place, Told, Truth

_SQL: Final = load("truth.sql")
FIRST_LOOK_S: Final = 5.0
"""After feedback came without its decision; then after as long as it has waited, an hour at most."""
GIVE_UP_S: Final = 90 * 86_400.0
"""As long as the topic of the feedback keeps it. If its decision comes after all, it is still counted."""
SWEEP_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """Decisions of which something was learned, but which are not known: still looked for, and given up."""

    looked_for: int
    given_up: int


async def lock(connection: Connection, partitions: Iterable[int]) -> None:
    """Nobody else joins truth and decisions of these partitions of the requests before this transaction ends."""
    await connection.execute(_SQL["lock"], (list(partitions),))


async def hold(connection: Connection, names: Iterable[Name], partition: int) -> dict[Name, Truth]:
    """What is known of some decisions that feedback speaks of, held until the transaction ends.

    ``partition``: where the feedback lay, which is where the requests lie if its key is theirs.
    """
    wanted = sorted(set(names))
    await lock(connection, {partition, *await _partitions(connection, wanted)})
    await connection.execute(_SQL["add_truths"], (FIRST_LOOK_S, *columns(wanted)))
    return await _held(connection, wanted)


async def settle(
    connection: Connection, held: Mapping[Name, Truth], told: Sequence[tuple[Name, Told]]
) -> None:
    """Learn what was told, in its order; find decisions that are not known yet; count what changes."""
    after = dict(held)
    for name, each in told:
        after[name] = after[name].learn(each)
    # Also where there is no answer of the model: it may have come as a shadow.
    wanted = [name for name, truth in after.items() if truth.place is None or truth.place.ml is None]
    for name, place in (await _places(connection, wanted)).items():
        after[name] = Truth(after[name].told, place)
    changed = {name: truth for name, truth in after.items() if truth != held[name]}
    added = Added()
    for (id_, agent), truth in changed.items():
        added.change(agent, held[id_, agent], truth)
    added.settle()
    await _keep(connection, changed)
    await _add(connection, added)


async def with_outcomes(
    connection: Connection, outcomes: Sequence[Outcome], topic_ids: Mapping[str, int]
) -> None:
    """Count what was learned of these decisions before they were known, and the shadow answers that came before them."""
    await lock(connection, {outcome.place.partition for outcome in outcomes})
    alone = [each for each in outcomes if each.answers.ml is None and each.status == "final"]
    await _agree(connection, [(each.decision_id, each.place, None) for each in alone], topic_ids)
    # Mostly nothing waits, and to hand thousands of ids over for that would cost as much as to write them.
    if await (await connection.execute(_SQL["nothing_waits"])).fetchone():
        return
    ids = [clean(outcome.decision_id) for outcome in outcomes if outcome.status == "final"]
    cursor = await connection.execute(_SQL["waiting"], (ids,))
    if early := await cursor.fetchall():
        await settle(connection, await _held(connection, sorted(early)), [])


async def with_shadows(
    connection: Connection, shadows: Sequence[ShadowAnswer], topic_ids: Mapping[str, int]
) -> None:
    """Count these answers beside the rules', and where a label was known before them."""
    if not shadows:
        return
    await lock(connection, {shadow.place.partition for shadow in shadows})
    given = [(each.decision_id, each.place, clean(each.answer.decider)) for each in shadows]
    await _agree(connection, given, topic_ids)
    names = sorted({(clean(shadow.decision_id), clean(shadow.agent)) for shadow in shadows})
    cursor = await connection.execute(_SQL["unanswered"], columns(names))
    if labelled := await cursor.fetchall():
        await settle(connection, await _held(connection, sorted(labelled)), [])


async def _agree(
    connection: Connection, given: Sequence[tuple[str, Request, str | None]], topic_ids: Mapping[str, int]
) -> None:
    """Count shadow answers of decisions that are known: id, place of the request, the answer's decider where it is new."""
    table = [
        (clean(id_), topic_ids[at.topic], at.partition, at.offset, decider) for id_, at, decider in given
    ]
    if table:
        await connection.execute(_SQL["add_agreements"], columns(table))


async def sweep(connection: Connection) -> bool:
    """Look again for some decisions that were not known; a transaction of its own. Whether more may be due."""
    cursor = await connection.execute(_SQL["due"], (SWEEP_MAX,))
    if due := sorted(await cursor.fetchall()):
        async with connection.transaction():
            await lock(connection, await _partitions(connection, due))
            await settle(connection, await _held(connection, due), [])
            ids, agents = columns(due)
            later = {"first_s": FIRST_LOOK_S, "give_up_s": GIVE_UP_S, "ids": ids, "agents": agents}
            await connection.execute(_SQL["later"], later)
    return len(due) == SWEEP_MAX


async def waiting(connection: Connection) -> Waiting:
    """How many are not known. Reads all of them: not for every few seconds."""
    row = await (await connection.execute(_SQL["waiting_counts"])).fetchone()
    assert row is not None, "counts are one row"
    return Waiting(*row)


async def _partitions(connection: Connection, names: Sequence[Name]) -> set[int]:
    cursor = await connection.execute(_SQL["partitions"], columns(names))
    return {row[0] for row in await cursor.fetchall()}


async def _held(connection: Connection, names: Sequence[Name]) -> dict[Name, Truth]:
    cursor = await connection.execute(_SQL["hold"], columns(names))
    return {
        (id_, agent): Truth(told, None if place[0] is None else Place(*place))
        for id_, agent, told, *place in await cursor.fetchall()
    }


async def _places(connection: Connection, names: Sequence[Name]) -> dict[Name, Place]:
    if not names:
        return {}
    cursor = await connection.execute(_SQL["find"], columns(names))
    return {(id_, agent): Place(*place) for id_, agent, *place in await cursor.fetchall()}


async def _keep(connection: Connection, changed: Mapping[Name, Truth]) -> None:
    if not changed:
        return
    rows = [
        (
            *name, msgspec.json.encode(truth.told).decode(),
            *((p.minute, p.arm, p.shard, p.asked_at, p.served, p.rules, p.ml) if (p := truth.place) else (None,) * 7),
        )
        for name, truth in changed.items()
    ]  # fmt: skip
    await connection.execute(_SQL["keep"], columns(rows))


async def _add(connection: Connection, added: Added) -> None:
    # In the order of their keys: two writers that meet in some rows wait for each other, but never in a ring.
    counters = [(*key, *values) for key, values in sorted(added.counters.items())]
    labels = [(*key, n) for key, n in sorted(added.labels.items())]
    for query, table in (("add_truth_minutes", counters), ("add_labels", labels)):
        if table:
            await connection.execute(_SQL[query], columns(table))
