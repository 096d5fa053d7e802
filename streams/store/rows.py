"""Outcomes and shadow answers as COPY rows: pure, and the sink's hot path.

The order of fields is that of the COPY queries in `audit.sql`; a test reads every column back.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from pointsman.schemas.outcome import Answer, Outcome, Place, ShadowAnswer
from pointsman.streams.store import copyrow as f

SALT_BYTES: Final = 16
"""128 bits: nobody finds an input by trying likely ones against its commitment."""
_KEPT_MAX: Final = 10_000
"""Packed contexts and answers that are kept. Real streams have some dozens; made-up ones are bounded."""

Guard = tuple[int, int, int, int, int]
"""topic id, partition, offset, revision, content hash: what makes an outcome written once."""
ShadowGuard = tuple[int, int, int, str, str]
"""topic id, partition, offset, decider, decision id."""

_guard_row: Final = Struct(">hiiiiiqihiq").pack
_moments: Final = Struct(">hiq").pack
_numbers: Final = Struct(">iqididid").pack
_scores: Final = Struct(">idid").pack
_place_row: Final = Struct(">hiqiqiiiiih").pack
_NO_SCORES: Final = f.NULL * 2
_NO_TEXTS: Final = f.NULL * 3
_DECISION_FIELDS: Final = 42
_CONTENT_FIELDS: Final = 9


def guard(outcome: Outcome, topic_id: int) -> Guard:
    """The key of an outcome."""
    place = outcome.place
    return topic_id, place.partition, place.offset, outcome.revision, hash_number(outcome.content_hash)


def hash_number(content_hash: str) -> int:
    """A 64-bit hash in hex as a signed number."""
    number = int(content_hash, 16) & 0xFFFF_FFFF_FFFF_FFFF
    return number - (1 << 64) if number >> 63 else number


def shadow_guard(shadow: ShadowAnswer, topic_id: int) -> ShadowGuard:
    """The key of a shadow answer."""
    place = shadow.place
    return (
        topic_id,
        place.partition,
        place.offset,
        f.clean(shadow.answer.decider),
        f.clean(shadow.decision_id),
    )


def guard_rows(guards: Sequence[Guard]) -> list[bytes]:
    """Rows of `decision_places`."""
    return [_guard_row(5, 4, t, 4, p, 8, o, 2, r, 8, h) for t, p, o, r, h in guards]


def commitment(salt: bytes, unit: str | None, content: bytes) -> bytes:
    """SHA-256 of salt, unit, a zero byte and content, as `ml_learning.commitment` computes it."""
    named = f.clean(unit).encode() if unit else b""
    return hashlib.sha256(b"".join((salt, named, b"\0", content))).digest()


def salts(n: int) -> list[bytes]:
    """``n`` random salts, from one call of the system."""
    drawn = os.urandom(SALT_BYTES * n)
    return [drawn[i : i + SALT_BYTES] for i in range(0, len(drawn), SALT_BYTES)]


class Packer:
    """Packs outcomes; keeps what repeats from row to row already packed."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[object, ...], bytes] = {}
        self._answers: dict[tuple[str, str, str], bytes] = {}

    def decisions(
        self,
        traced: Sequence[tuple[Outcome, str | None]],
        topic_ids: Mapping[str, int],
    ) -> tuple[list[bytes], list[bytes]]:
        """Rows of `agent_decisions` and of `decision_contents`, in order, of outcomes with their trace ids."""
        decisions, contents = [], []
        for (outcome, trace_id), salt in zip(traced, salts(len(traced)), strict=True):
            topic_id = topic_ids[outcome.place.topic]
            created = f.micros(outcome.decided_at)
            id_ = f.text(outcome.decision_id)
            input_ = bytes(outcome.input)
            committed = commitment(salt, outcome.unit, input_)
            decisions.append(self._decision(outcome, topic_id, created, id_, committed, trace_id))
            place = outcome.place
            contents.append(
                b"".join(
                    (
                        _place_row(
                            _CONTENT_FIELDS, 8, created, 8, place.offset, 4, topic_id, 4, place.partition,
                            2, outcome.revision,
                        ),
                        id_, f.text(outcome.unit), f.binary(salt), f.binary(input_),
                    )
                )
            )  # fmt: skip
        return decisions, contents

    def _decision(
        self,
        outcome: Outcome,
        topic_id: int,
        created: int,
        id_: bytes,
        committed: bytes,
        trace_id: str | None,
    ) -> bytes:
        answers, timings = outcome.answers, outcome.timings
        rules, ml = answers.rules, answers.ml
        return b"".join(
            (
                _moments(_DECISION_FIELDS, 8, created),
                f.timestamptz(outcome.requested_at),
                _numbers(
                    8,
                    outcome.place.offset,
                    8,
                    outcome.confidence,
                    8,
                    timings.total_ms,
                    8,
                    timings.features_ms,
                ),
                f.float8(timings.model_ms),
                _scores(8, rules.score, 8, rules.confidence),
                _scores(8, ml.score, 8, ml.confidence) if ml else _NO_SCORES,
                id_,
                self._context(outcome, topic_id),
                f.text(outcome.reason),
                self._answer(rules),
                self._answer(ml) if ml else _NO_TEXTS,
                f.text(trace_id),
                f.text(outcome.content_hash),
                f.binary(committed),
                f.jsonb(bytes(outcome.features)),
            )
        )

    def _context(self, o: Outcome, topic_id: int) -> bytes:
        key = (
            o.agent, topic_id, o.place.partition, o.revision, o.success, o.needs_review, o.status, o.source, o.arm,
            o.prediction, o.action, o.fallback_reason, o.flag, o.versions,
        )  # fmt: skip
        packed = self._contexts.get(key)
        if packed is None:
            if len(self._contexts) >= _KEPT_MAX:
                self._contexts.clear()
            packed = self._contexts[key] = _pack_context(o, topic_id)
        return packed

    def _answer(self, answer: Answer) -> bytes:
        key = (answer.decider, answer.prediction, answer.reason)
        packed = self._answers.get(key)
        if packed is None:
            if len(self._answers) >= _KEPT_MAX:
                self._answers.clear()
            packed = self._answers[key] = b"".join(map(f.text, key))
        return packed


def _pack_context(o: Outcome, topic_id: int) -> bytes:
    versions, flag = o.versions, o.flag
    texts = (
        o.agent, o.status, o.source, o.arm, o.prediction, o.action, o.fallback_reason,
        flag.name, versions.pointsman, versions.features, versions.rules, versions.ml,
    )  # fmt: skip
    return b"".join(
        (
            f.int4(topic_id),
            f.int4(o.place.partition),
            f.int8(flag.version),
            f.float8(flag.percentage),
            f.int2(o.revision),
            f.boolean(o.success),
            f.boolean(o.needs_review),
            *map(f.text, texts),
        )
    )


def shadow_rows(
    shadows: Sequence[ShadowAnswer], topic_ids: Mapping[str, int]
) -> tuple[list[bytes], list[bytes]]:
    """Rows of `shadow_places` and of `decision_shadows`, in order."""
    guards, rows = [], []
    for shadow in shadows:
        answer = shadow.answer
        place = _place(shadow.place, topic_ids)
        id_, decider = f.text(shadow.decision_id), f.text(answer.decider)
        guards.append(b"".join((f.count(5), place, decider, id_)))
        rows.append(
            b"".join(
                (
                    f.count(11), f.timestamptz(shadow.answered_at), place,
                    _scores(8, answer.score, 8, answer.confidence),
                    id_, f.text(shadow.agent), decider, f.text(answer.prediction), f.text(answer.reason),
                )
            )
        )  # fmt: skip
    return guards, rows


def history_row(outcome: Outcome, topic_ids: Mapping[str, int]) -> tuple[object, ...]:
    """A row of `decision_histories`, as values; of an outcome that has a history."""
    history = outcome.history
    assert history, "asked for outcomes that have one"
    cause, taken, first = history.first_error, history.taken_from, history.first_place
    return (
        *guard(outcome, topic_ids[outcome.place.topic]), f.clean(outcome.decision_id), history.attempts,
        *((f.clean(cause.reason), f.clean(cause.field)) if cause else (None,) * 2),
        *((topic_ids[taken.topic], taken.offset) if taken else (None,) * 2),
        history.redriven,
        *((topic_ids[first.topic], first.partition, first.offset) if first else (None,) * 3),
    )  # fmt: skip


def _place(place: Place, topic_ids: Mapping[str, int]) -> bytes:
    return f.int4(topic_ids[place.topic]) + f.int4(place.partition) + f.int8(place.offset)
