"""Dead letters: the bytes as they were received, and headers that say why, on `decision-dead-letters`."""

from __future__ import annotations

from typing import Final

from pointsman.schemas.retry import HEADER_KEPT, HEADER_REDRIVEN

REASONS: Final = {
    "empty_value": "the record has no value",
    "too_large": "the value is larger than the limit; the letter holds its hash, length and place instead",
    "too_large_batch": "decompressed, the record's batch would be larger than the limit; one letter with hash, length"
    " and place stands for all its records",
    "corrupt_batch": "the checksum of the record's batch is right and its content makes no sense; one letter with"
    " checksum and place stands for all its records that could not be read",
    "not_json": "the value is not JSON",
    "too_deep": "arrays or objects nest deeper than the limit",
    "wrong_type": "a field has another type, or a value out of its range",
    "missing_field": "a required field is missing",
    "unknown_agent": "no agent of that name is loaded",
    "bad_key": "the record's key is neither the unit nor the request's id",
    "id_reused": "the id was used before, with other content",
    "feature_error": "the agent's feature function failed on this input",
    "rules_error": "the agent's rules failed on this input",
    "try_later": "the agent asked for a later attempt, and its last one has passed",
    "too_large_outcome": "the outcome would be larger than a batch may be",
    "no_context": "a record of a delay topic without what Pointsman keeps there",
}
"""Reason to what it means. A reason is never renamed: consumers match on it."""

OF_BATCHES: Final = frozenset({"too_large_batch", "corrupt_batch"})
"""Reasons of letters that stand for a whole batch and hold no message."""

HEADER_REASON: Final = "reason"
HEADER_FIELD: Final = "field"
HEADER_EXPECTED: Final = "expected"
HEADER_TOPIC: Final = "topic"
HEADER_PARTITION: Final = "partition"
HEADER_OFFSET: Final = "offset"
HEADER_ATTEMPT: Final = "attempt"
HEADERS: Final = {
    HEADER_REASON: "why, one of the reasons",
    HEADER_FIELD: "path of the field that is wrong; `value` or `key` where it is the whole of it",
    HEADER_EXPECTED: "what should stand there, for people",
    HEADER_TOPIC: "topic that the message lay in",
    HEADER_PARTITION: "its partition, in decimal",
    HEADER_OFFSET: "its offset, in decimal",
    HEADER_ATTEMPT: "how often it was tried, in decimal, from 1",
}
"""Header to what it means; all are UTF-8 texts. Further headers are the message's own, as received."""
OPTIONAL: Final = {
    HEADER_KEPT: "of a request that was tried again: first error, assigned arm and places, as JSON",
    HEADER_REDRIVEN: "of a request that was sent again from the dead letters: how often, and its first place, as JSON",
}
"""Headers that only some letters have."""
