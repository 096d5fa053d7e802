"""Outcomes folded into minutes add up to the same in any order and any parts."""

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import Answers, Outcome, Timings
from pointsman.streams.store.minutes import BANDS, COUNTERS, Minutes, fold
from tests.support.outcomes import START, answer, outcome

OUTCOMES = st.lists(
    st.builds(
        lambda second, total, confidence, status, reason, ml, partition: outcome(
            0,
            partition=partition,
            decided_at=START + timedelta(seconds=second),
            timings=Timings(total_ms=total, features_ms=0.1),
            confidence=confidence,
            status=status,
            fallback_reason=reason,
            answers=Answers(rules=answer(), ml=ml and answer("ml@1", ml)),
        ),
        st.integers(0, 200),
        st.floats(0, 1e5),
        st.floats(0.5, 1),
        st.sampled_from(["final", "final", "pending_approval"]),
        st.sampled_from([None, "timeout", "error"]),
        st.sampled_from([None, "update", "none"]),
        st.integers(0, 2),
    ),
    max_size=30,
)


def added(parts: list[Minutes]) -> tuple[dict[object, list[int]], Counter[object], Counter[object]]:
    counters: dict[object, list[int]] = {}
    fallbacks: Counter[object] = Counter()
    latency: Counter[object] = Counter()
    for part in parts:
        for key, values in part.counters.items():
            before = counters.get(key, [0] * len(COUNTERS))
            counters[key] = [a + b for a, b in zip(before, values, strict=True)]
        fallbacks.update(part.fallbacks)
        latency.update(part.latency)
    return counters, fallbacks, latency


@given(OUTCOMES, st.integers(0, 30))
def test_parts_add_up_to_the_whole_in_any_order(given_: list[Outcome], cut: int) -> None:
    assert added([fold(given_[cut:]), fold(given_[:cut])]) == added([fold(given_)])


@given(OUTCOMES)
def test_every_final_outcome_is_in_one_minute_and_one_bucket(given_: list[Outcome]) -> None:
    counters, fallbacks, latency = added([fold(given_)])
    final = [one for one in given_ if one.status == "final"]
    totals = dict(
        zip(COUNTERS, (sum(column) for column in zip(*counters.values(), strict=True)), strict=False)
    )
    assert totals.get("decisions", 0) == len(final) == latency.total()
    assert totals.get("pending", 0) == len(given_) - len(final)
    assert (
        totals.get("fallbacks", 0)
        == sum(one.fallback_reason is not None for one in final)
        == fallbacks.total()
    )
    buckets: Counter[int] = Counter()
    for key, n in latency.items():
        buckets[key[-1]] += n  # type: ignore[index]
    assert buckets == Counter(bucket(one.timings.total_ms) for one in final)


@given(OUTCOMES, st.integers(0, 30))
def test_scores_confidence_and_flag_states_add_up_to_the_final_outcomes(
    given_: list[Outcome], cut: int
) -> None:
    scores: Counter[tuple[str, str]] = Counter()
    millionths: Counter[tuple[str, str]] = Counter()
    bands: Counter[int] = Counter()
    flags: Counter[tuple[int, float]] = Counter()
    for part in (fold(given_[:cut]), fold(given_[cut:])):
        for (*_, which, said), (n, total) in part.scores.items():
            scores[which, said] += n
            millionths[which, said] += total
        for (*_, band), n in part.confidences.items():
            bands[band] += n
        for (*_, version, percentage), n in part.flags.items():
            flags[version, percentage] += n
    final = [one for one in given_ if one.status == "final"]
    answers_ = [("rules", one.answers.rules) for one in final]
    answers_ += [("ml", one.answers.ml) for one in final if one.answers.ml is not None]
    said = [(which, each.prediction, each.score) for which, each in answers_]
    said += [("served", one.prediction, one.answers.rules.score) for one in final]  # all by the rules here
    assert scores == Counter((which, prediction) for which, prediction, _ in said)
    expected: Counter[tuple[str, str]] = Counter()
    for which, prediction, score in said:
        expected[which, prediction] += round(score * 1e6)
    assert millionths == expected
    assert bands == Counter(min(49, int(one.confidence * 50 + 1e-9)) for one in final)
    assert flags == Counter((one.flag.version, one.flag.percentage) for one in final)


def test_the_answer_served_is_the_models_where_it_served() -> None:
    both = Answers(rules=answer("rules@1", "none", 0.1), ml=answer("ml@1", "update", 0.9))
    part = fold(
        [
            outcome(answers=both, source="ml", prediction="update"),
            outcome(1, answers=both, source="deterministic", prediction="none"),
        ]
    )
    served = {said: n for (*_, which, said), (n, _) in part.scores.items() if which == "served"}
    assert served == {"update": 1, "none": 1}


@given(st.floats(-0.5, 1.5))
def test_every_confidence_has_a_band_that_holds_it(confidence: float) -> None:
    (cell,) = fold([outcome(confidence=confidence)]).confidences
    band = cell[-1]
    assert 0 <= band < BANDS
    if 0 <= confidence <= 1:
        assert band / BANDS - 1e-9 <= confidence <= (band + 1) / BANDS + 1e-9
