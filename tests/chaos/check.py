"""The checker: what must be, from what was sent, against what is there. Pure; an empty list is a clean run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.evidence import Decided, Evidence, Place, minute_of
from tests.chaos.load import Sent, Truth

RETRIED = frozenset({"unknown_agent"})
"""Of the reasons for which the load's requests are refused, those that waiting could mend."""
SHOWN = 3
"""Examples of each finding."""


@dataclass
class Expected:
    """What the log of the inputs demands."""

    outcomes: dict[Place, str] = field(default_factory=dict)
    """Place of each request that must be answered, to its id."""
    letters: dict[Place, str] = field(default_factory=dict)
    """Place of each record that must be refused, to the reason."""
    duplicates: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Requests that must get no second answer, by topic and partition."""
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    labels: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Decision, event, label: one each."""
    digests: dict[Place, str] = field(default_factory=dict)


def expect(truth: Truth, found: Evidence, requests: str) -> Expected:
    """Read the log of the inputs as the contract does: the first of an id counts, an equal one repeats it."""
    expected = Expected()
    answered: dict[str, str] = {}
    for place in sorted(found.records):
        number, digest = found.records[place]
        sent = truth.sent[number]
        topic, partition, _ = place
        expected.digests[place] = digest
        if topic != requests:
            if sent.reason:
                expected.letters[place] = sent.reason
            else:
                expected.labels[sent.decision_id, sent.id, sent.label] = 1
            continue
        expected.requests[topic, partition] += 1
        if sent.reason:
            expected.letters[place] = sent.reason
        elif sent.id not in answered:
            answered[sent.id] = digest
            expected.outcomes[place] = sent.id
        elif answered[sent.id] == digest:
            expected.duplicates[topic, partition] += 1
        else:
            expected.letters[place] = "id_reused"
    return expected


def check(truth: Truth, found: Evidence, requests: str, delays: Sequence[str] = ()) -> list[str]:
    """Everything that is not as it must be, in words. ``delays``: the delay topics in their order."""
    expected = expect(truth, found, requests)
    return [
        *_log(truth.sent, found),
        *_outcomes(expected, found),
        *_letters(expected, found, requests),
        *_rows(found),
        *_minutes(found),
        *_labels(expected, found),
        *_ledger(expected, found, requests, delays),
        *(f"the product's own check: {each}" for each in found.differences[:SHOWN]),
        *(f"an open transaction at the end of {each}" for each in found.open_transactions),
    ]


def _log(sent: Iterable[Sent], found: Evidence) -> Iterable[str]:
    """The broker has what it acknowledged, where it said, as it was."""
    lost, changed = [], []
    for each in sent:
        if each.acknowledged:
            there = found.records.get((each.topic, each.partition, each.offset))
            if there is None or there[0] != each.seq:
                lost.append(f"{each.topic}[{each.partition}]@{each.offset}")
            elif there[1] != each.digest:
                changed.append(f"{each.topic}[{each.partition}]@{each.offset}")
    yield from _named("acknowledged by the broker and not in its log", lost)
    yield from _named("changed in the broker's log", changed)


def _outcomes(expected: Expected, found: Evidence) -> Iterable[str]:
    wanted = set(expected.outcomes.values())
    final = [(partition, each) for partition, each in found.outcomes if each.status == "final"]
    counts = Counter(each.id for _, each in final)
    yield from _named("lost: a valid request without an outcome", wanted - counts.keys())
    yield from _named("doubled: more than one final outcome", [k for k, n in counts.items() if n > 1])
    yield from _named("an outcome that nobody asked for", counts.keys() - wanted)
    yield from _named("not final", [each.id for _, each in found.outcomes if each.status != "final"])
    wrong = [each.id for _, each in final if expected.outcomes.get(each.place) != each.id]
    yield from _named("an outcome that names another place than its request's", wrong)
    strayed = [each.id for partition, each in final if partition != each.place[1]]
    yield from _named("an outcome in another partition than its request", strayed)
    other = [each.id for _, each in final if expected.digests.get(each.place) != each.content_hash]
    yield from _named("an outcome of other content", other)


def _letters(expected: Expected, found: Evidence, requests: str) -> Iterable[str]:
    """Each refused request once. The sink refuses feedback at least once in the topic, and once in the table."""
    for where, letters in (("the topic", found.letters), ("the table", found.letter_rows)):
        counts = Counter(each.place for each in letters)
        yield from _named(f"no dead letter in {where}", expected.letters.keys() - counts.keys())
        yield from _named(
            f"a dead letter in {where} of a good record", counts.keys() - expected.letters.keys()
        )
        twice = [
            place for place, n in counts.items() if n > 1 and (place[0] == requests or where == "the table")
        ]
        yield from _named(f"more than one dead letter in {where}", twice)
        wrong = [
            f"{each.place} {each.reason}, not {expected.letters[each.place]}"
            for each in letters
            if each.place in expected.letters and each.reason != expected.letters[each.place]
        ]
        yield from _named(f"a dead letter in {where} with another reason", wrong)
    bytes_changed = [
        each.place
        for each in found.letters
        if each.reason != "too_large" and each.digest != expected.digests.get(each.place, each.digest)
    ]
    yield from _named("a dead letter with other bytes than were received", bytes_changed)


def _rows(found: Evidence) -> Iterable[str]:
    rows, messages = Counter(found.rows), Counter(each for _, each in found.outcomes)
    places = Counter((each.place, each.status) for each in found.rows)
    yield from _named("more than one audit row", [str(k) for k, n in places.items() if n > 1])
    by_place = {(each.place, each.status): each for each in found.rows}
    missing, unequal = [], []
    for each in messages:
        row = by_place.get((each.place, each.status))
        if row is None:
            missing.append(each.id)
        elif row != each:
            unequal.append(f"{each.id}: {_difference(each, row)}")
    yield from _named("an outcome without its audit row", missing)
    yield from _named("an audit row that says something else than its outcome", unequal)
    known = {(each.place, each.status) for each in messages}
    extra = [each.id for each in rows if (each.place, each.status) not in known]
    yield from _named("an audit row without an outcome", extra)


def _difference(one: Decided, other: Decided) -> str:
    names = [name for name in Decided.__slots__ if getattr(one, name) != getattr(other, name)]
    return ", ".join(f"{name} {getattr(one, name)} ≠ {getattr(other, name)}" for name in names)


def _minutes(found: Evidence) -> Iterable[str]:
    """Aggregates, counted again from the messages."""
    counted: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for _, each in found.outcomes:
        if each.status == "final":
            counts = counted[each.agent, minute_of(each.created_us), each.arm]
            counts[0] += 1
            counts[1] += each.by_ml
            counts[2] += each.fallback is not None
    wrong = [
        f"{key}: {found.minutes.get(key)}, not {tuple(counted.get(key, ()))}"
        for key in sorted(counted.keys() | found.minutes.keys())
        if found.minutes.get(key) != tuple(counted.get(key, ()))
    ]
    yield from _named("an aggregate that differs from the outcomes", wrong)


def _labels(expected: Expected, found: Evidence) -> Iterable[str]:
    yield from _named("a label without its row", expected.labels.keys() - found.feedback.keys())
    yield from _named("a label that was kept twice", [k for k, n in found.feedback.items() if n > 1])
    yield from _named("a label that nobody sent", found.feedback.keys() - expected.labels.keys())
    answered = set(expected.outcomes.values())
    joined = Counter((id_, label) for id_, _, label in expected.labels if id_ in answered)
    yield from _named("a label that is not joined once", [k for k in joined if found.labels[k] != 1])
    yield from _named("a label joined to something else", found.labels.keys() - joined.keys())


def _ledger(expected: Expected, found: Evidence, requests: str, delays: Sequence[str]) -> Iterable[str]:
    """Requests = outcomes + pending + retrying + dead letters + duplicates, and each as it must be.

    What is tried again goes from topic to topic, never succeeds here, and is refused after the last.
    """
    answered = Counter((place[0], place[1]) for place in expected.outcomes)
    refused = Counter((place[0], place[1]) for place in expected.letters if place[0] == requests)
    for key, sent in sorted(expected.requests.items()):
        sums = found.ledger.get(key, Counter())
        again = sum(
            reason in RETRIED for place, reason in expected.letters.items() if place[:2] == key
        ) * bool(delays)
        told = {
            "requests": sent,
            "outcomes": answered[key],
            "dead_letters": refused[key] - again,
            "duplicates": expected.duplicates[key],
            "pending": 0,
            "retrying": again,
        }
        yield from _differs(key, sums, told)
        for topic in delays:
            ends = {"dead_letters" if topic == delays[-1] else "retrying": again}
            told = dict.fromkeys(told, 0) | {"requests": again} | ends
            yield from _differs((topic, key[1]), found.ledger.get((topic, key[1]), Counter()), told)


def _differs(key: tuple[str, int], sums: Counter[str], told: dict[str, int]) -> Iterable[str]:
    wrong = [f"{name} {sums[name]}, not {count}" for name, count in told.items() if sums[name] != count]
    yield from _named(f"the ledger of {key[0]}[{key[1]}]", wrong)


def _named(what: str, found: Iterable[object]) -> Iterable[str]:
    cases = sorted(map(str, found))
    if cases:
        more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
        yield f"{what}: {len(cases)} ({'; '.join(cases[:SHOWN])}{more})"
