"""A batch becomes outcomes: fallbacks, shadow answers, bands, approvals, features that fail, and what survives a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest

from pointsman.models.agent import Bands
from pointsman.models.decider import Row
from pointsman.models.split import even
from pointsman.schemas.errors import InvalidSetting
from pointsman.schemas.outcome import Outcome
from pointsman.streams.decisions import emit, later
from pointsman.streams.decisions.runtime import Runtime, runtimes
from pointsman.streams.decisions.tally import decode_metadata
from pointsman.streams.model.failure import ModelFailure, Reason
from pointsman.streams.output import Committed, Output, Record
from tests.builders import AT_MS, SEED, Rules, Score, agent, record, runtime, valid
from tests.unit.streams.decisions.decision_world import NAMES, TP, World


async def process(world: World, *records: Record, final: bool = False, commit: bool = True) -> Output:
    """One batch through the work, committed at once."""
    if world.work._answered is None:
        await world.work.restore(Committed({TP: world.broker.position}, world.broker.metadata))
    output = await world.work.process({TP: list(records)} if records else {}, final=final)
    if output and commit:
        world.broker.apply(output)
        output.keep()
    return output


def outcomes(output: Output) -> list[Outcome]:
    return [
        msgspec.json.decode(v or b"", type=Outcome)
        for _, v, _ in output.messages.get((NAMES.outcomes, 0), [])
    ]


def raising(error: Exception) -> Any:
    def answer(_rows: Sequence[Row]) -> Any:
        raise error

    return answer


# -- fallbacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("served", "reason"),
    [(raising(ModelFailure(reason)), reason) for reason in get_args(Reason)]
    + [
        (lambda rows: [float("nan")] * len(rows), "model_bad_output"),
        (lambda rows: [1.5] * len(rows), "model_bad_output"),
        (lambda rows: [0.5] * (len(rows) - 1), "model_bad_output"),
        (lambda rows: [0.5] * (len(rows) + 1), "model_bad_output"),
        (lambda rows: ["a"] * len(rows), "model_bad_output"),
        (lambda rows: [[0.5]] * len(rows), "model_bad_output"),
        (raising(RuntimeError("a bug")), "model_error"),
        (raising(ConnectionResetError()), "model_error"),
    ],
)
async def test_where_the_model_fails_the_rules_answer_and_say_why(served: Any, reason: str) -> None:
    world = World(scorer=Score(served=served))
    world.flag(100, 1)
    for outcome in outcomes(await process(world, valid("a"), valid("b", 1))):
        assert (outcome.source, outcome.arm, outcome.fallback_reason) == (
            "deterministic",
            "candidate",
            reason,
        )
        assert outcome.success
        assert outcome.prediction == outcome.answers.rules.prediction
        assert outcome.answers.ml is None
    await process(world, final=True)
    (arm,) = world.broker.arms()
    assert (arm.decisions, arm.by_ml, arm.fallbacks) == (2, 0, {reason: 2})


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (raising(RuntimeError("a bug")), 1),
        (raising(ModelFailure("model_error")), 0),
        (lambda rows: [float("nan")] * len(rows), 0),
    ],
)
async def test_what_nobody_expected_of_the_model_is_logged(
    served: Any, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(scorer=Score(served=served))
    world.flag(100, 1)
    await process(world, valid("a"), valid("b", 1))
    found = [each for each in caplog.records if each.message == "asking the model failed"]
    assert [each.exc_info is not None for each in found] == [True] * said
    assert [each.__dict__["agents"] for each in found] == [["small"]] * said


@pytest.mark.parametrize(("scorer", "model"), [(None, True), (Score(), False), (None, False)])
async def test_without_a_model_the_rules_answer_and_say_why(scorer: Score | None, model: bool) -> None:
    world = World(scorer=scorer, model=model)
    world.flag(100, 1)
    (outcome,) = outcomes(await process(world, valid("a")))
    assert (outcome.source, outcome.fallback_reason) == ("deterministic", "model_unavailable")


async def test_scores_of_another_model_than_the_cards_are_not_taken_for_its_own() -> None:
    scorer = Score()
    scorer.version = "8"
    world = World(scorer=scorer)
    world.flag(100, 1)
    (outcome,) = outcomes(await process(world, valid("a")))
    assert (outcome.source, outcome.fallback_reason) == ("deterministic", "model_unavailable")
    assert outcome.answers.ml is None


async def test_a_candidate_gets_the_models_answer_and_both_are_kept() -> None:
    world = World(scorer=Score())
    world.flag(100, 3)
    (outcome,) = outcomes(await process(world, valid("a")))
    assert (outcome.source, outcome.arm, outcome.fallback_reason) == ("ml", "candidate", None)
    assert (outcome.prediction, outcome.confidence) == ("no", 0.75)
    assert outcome.answers.ml is not None
    assert (outcome.answers.ml.decider, outcome.answers.rules.prediction) == ("ml@7", "yes")
    assert (outcome.flag.percentage, outcome.flag.version, outcome.versions.ml) == (100, 3, "ml@7")


async def test_an_unset_flag_sends_nothing_to_the_model() -> None:
    world = World(scorer=Score())
    (outcome,) = outcomes(await process(world, valid("a")))
    assert (outcome.source, outcome.arm, outcome.flag.percentage, outcome.flag.version) == (
        "deterministic",
        "control",
        0,
        0,
    )
    assert world.scorer is not None
    assert world.scorer.asked == []


# -- shadow answers --------------------------------------------------------------------------------


async def test_the_model_is_asked_as_a_shadow_only_after_the_commit_and_answers_are_published_once() -> None:
    world = World(scorer=Score())
    output = await process(world, valid("a"), valid("b", 1), commit=False)
    await asyncio.sleep(0)
    assert world.scorer is not None
    assert world.scorer.shadowed == []
    world.broker.apply(output)
    output.keep()
    await world.pump()
    assert world.scorer.shadowed == [2]
    for _ in range(3):
        await process(world)
    assert [each.decision_id for each in world.broker.shadows()] == ["a", "b"]
    assert all(each.answer.decider == "ml@7" for each in world.broker.shadows())


async def test_nothing_waits_for_a_shadow_answer() -> None:
    world = World(scorer=Score())
    assert world.scorer is not None
    world.scorer.gate.clear()
    for n in range(5):
        await process(world, valid(f"r{n}", n))
        await asyncio.sleep(0)
    assert len(world.broker.outcomes()) == 5
    await asyncio.wait_for(world.work.close(), 5)
    assert not world.work._later.asking


async def test_shadow_answers_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later, "SHADOW_ROWS_MAX", 7)
    world = World(scorer=Score())
    assert world.scorer is not None
    world.scorer.gate.clear()
    for n in range(10):
        await process(world, valid(f"a{n}", 2 * n), valid(f"b{n}", 2 * n + 1))
        await asyncio.sleep(0)
    world.scorer.gate.set()
    await world.pump()
    assert world.scorer.shadowed == [2, 2, 2]
    assert len(world.work._later.outbox) == 6
    await process(world)
    await process(world, valid("later", 100))
    await world.pump()
    await process(world)
    assert len(world.broker.shadows()) == 7


@pytest.mark.parametrize("share", [0, 10, 25, 50, 75, 100])
@pytest.mark.parametrize("gap", [1, 2])
async def test_the_shadow_share_holds_for_batches_of_one(share: float, gap: int) -> None:
    world = World(scorer=Score(), shadow_percent=share)
    assert world.scorer is not None
    for n in range(200):
        await process(world, valid(f"r{n}", n * gap))
        await asyncio.sleep(0)
    assert abs(sum(world.scorer.shadowed) - 2 * share) <= 3


async def test_control_requests_ride_along_with_candidates_and_are_not_asked_twice() -> None:
    world = World(scorer=Score())
    world.flag(50, 1)
    output = await process(world, *(valid(f"r{n}", n) for n in range(10)))
    await world.pump()
    assert world.scorer is not None
    assert (world.scorer.asked, world.scorer.shadowed) == ([10], [])
    assert {o.source for o in outcomes(output)} == {"ml", "deterministic"}
    assert all(o.answers.ml is not None for o in outcomes(output))


# -- confidence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "action"),
    [
        (0.800001, "act"),
        (0.8, "validate"),
        (0.799999, "validate"),
        (0.6, "validate"),
        (0.599999, "escalate"),
        (0.5, "escalate"),
        (1.0, "act"),
    ],
)
async def test_confidence_decides_what_may_be_done(p: float, action: str) -> None:
    world = World(scorer=Score())
    output = await process(world, valid("a", input={"p": p}))
    (outcome,) = outcomes(output)
    assert (outcome.action, outcome.needs_review) == (action, action == "escalate")
    assert (outcome.status, outcome.revision) == ("final", 1)
    escalations = output.messages.get((NAMES.escalations, 0), [])
    assert [msgspec.json.decode(value or b"")["why"] for _, value, _ in escalations] == (
        ["low_confidence"] if action == "escalate" else []
    )


def test_a_deployments_bands_win_and_bands_of_no_agent_are_refused() -> None:
    found = runtimes({"small": agent()}, {"small": Bands(act=0.99, validate=0.9)})
    assert found["small"].action(0.95) == "validate"
    assert Runtime(agent()).action(0.95) == "act"
    with pytest.raises(InvalidSetting, match="smal:"):
        runtimes({"small": agent()}, {"smal": Bands()})


async def test_under_approval_every_outcome_waits_and_is_escalated() -> None:
    world = World(agents=[agent(policy="APPROVAL_REQUIRED")], scorer=Score())
    output = await process(world, valid("a", input={"p": 0.99}), valid("b", 1, input={"p": 0.55}))
    for outcome in outcomes(output):
        assert (outcome.status, outcome.revision, outcome.success) == ("pending_approval", 0, True)
        assert outcome.prediction == "yes"
    why = [msgspec.json.decode(value or b"")["why"] for _, value, _ in output.messages[NAMES.escalations, 0]]
    assert why == ["approval_required"] * 2
    ledger = decode_metadata(output.metadata).ledger
    assert ledger is not None
    assert (ledger.requests, ledger.outcomes, ledger.pending, ledger.difference()) == (2, 0, 2, 0)


# -- agents that fail ------------------------------------------------------------------------------


class NoNumber(Rules):
    def decide(self, rows: Sequence[Row]) -> Any:
        return [
            msgspec.structs.replace(a, confidence=float("nan")) if a.score == 0.1 else a
            for a in super().decide(rows)
        ]


def short_of_one(inputs: Sequence[Any]) -> list[Row]:
    return [(each.p, 1.0) for each in inputs if each.text != "left out"]


def too_wide(inputs: Sequence[Any]) -> list[Any]:
    return [(each.p, 1.0, 2.0) if each.text == "wide" else (each.p, 1.0) for each in inputs]


def no_numbers(inputs: Sequence[Any]) -> list[Any]:
    return [(each.p, {"inf": float("inf"), "text": "x"}.get(each.text, 1.0)) for each in inputs]


@pytest.mark.parametrize(
    ("made", "input_", "reason"),
    [
        (agent(), {"text": "boom"}, "feature_error"),
        (agent(), {"text": "nan"}, "feature_error"),
        (agent(features=no_numbers), {"text": "inf"}, "feature_error"),
        (agent(features=no_numbers), {"text": "text"}, "feature_error"),
        (agent(features=short_of_one), {"text": "left out"}, "feature_error"),
        (agent(features=too_wide), {"text": "wide"}, "feature_error"),
        (agent(), {"text": "seven--"}, "rules_error"),
        (agent(rules=NoNumber()), {"p": 0.1}, "rules_error"),
    ],
)
async def test_a_request_that_an_agent_fails_on_is_a_dead_letter_and_the_others_go_on(
    made: Any, input_: Any, reason: str
) -> None:
    world = World(agents=[made], scorer=Score())
    output = await process(world, valid("a"), valid("bad", 1, input=input_), valid("c", 2))
    assert [(o.decision_id, o.place.offset) for o in outcomes(output)] == [("a", 0), ("c", 2)]
    ((key, _, headers),) = output.messages[NAMES.dead_letters, 0]
    assert key == b"bad"
    assert dict(headers)["reason"].decode() == reason
    assert dict(headers)["field"] == b"input"
    ledger = decode_metadata(output.metadata).ledger
    assert ledger is not None
    assert (ledger.requests, ledger.outcomes, ledger.dead_letters, ledger.difference()) == (3, 2, 1, 0)
    again = await process(world, valid("bad", 3))
    assert [o.decision_id for o in outcomes(again)] == ["bad"], "an id without an outcome stays free"


async def test_features_in_numbers_of_another_kind_are_taken_as_floats() -> None:
    np = pytest.importorskip("numpy")
    made = agent(features=lambda inputs: [(np.float64(each.p), np.float32(2)) for each in inputs])
    world = World(agents=[made], scorer=Score())
    (outcome,) = outcomes(await process(world, valid("a")))
    assert msgspec.json.decode(outcome.features) == {"p": 0.9, "letters": 2.0}


async def test_an_outcome_that_no_batch_can_hold_is_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "OUTCOME_BYTES_MAX", 2_000)
    world = World(scorer=Score())
    output = await process(world, valid("a"), valid("b", 1, input={"text": "x" * 2_000}))
    assert [o.decision_id for o in outcomes(output)] == ["a"]
    ((_, _, headers),) = output.messages[NAMES.dead_letters, 0]
    assert dict(headers)["reason"] == b"too_large_outcome"
    (arm,) = [a for arms in world.work._tally.arms.values() for a in [arms]]
    assert arm.decisions == 1
    again = await process(world, valid("b", 2))
    assert [o.decision_id for o in outcomes(again)] == ["b"], "its id stays free"


# -- state -----------------------------------------------------------------------------------------


async def test_nothing_of_a_batch_counts_before_its_commit() -> None:
    world = World(scorer=Score())
    world.flag(50, 1)
    first = await process(world, valid("a"), commit=False)
    again = await process(world, valid("a"))
    assert [o.decision_id for o in outcomes(first)] == [o.decision_id for o in outcomes(again)] == ["a"]
    assert decode_metadata(first.metadata).even == decode_metadata(again.metadata).even == {"small": (1, 1)}
    assert outcomes(await process(world, valid("a", 1))) == []


async def test_the_split_goes_on_after_a_restart_and_begins_anew_with_a_new_version() -> None:
    world = World(scorer=Score())
    arms = []
    for n in range(60):
        if n in (0, 40):
            world.flag(20, 1 + n)
        if n % 7 == 0:
            world.start()
        arms += [o.arm == "candidate" for o in outcomes(await process(world, valid(f"r{n}", n)))]
    expected = [even(SEED, 0, n if n < 40 else n - 40, 20) for n in range(60)]
    assert arms == expected
    assert 0 < sum(arms) < 60


async def test_ids_are_read_back_when_that_failed_the_first_time() -> None:
    world = World(scorer=Score())
    await process(world, valid("a"))
    world.start()

    async def fails() -> None:
        raise OSError("no broker")

    world.restore_hook = fails
    for _ in range(2):
        with pytest.raises(OSError, match="no broker"):
            await world.work.restore(Committed({TP: None}))
    world.restore_hook = None
    await world.work.restore(Committed({TP: None}))
    assert outcomes(await process(world, valid("a"))) == []


@pytest.mark.parametrize("timestamp", [AT_MS * 2, -1, 0])
async def test_a_record_without_a_time_or_from_the_future_has_no_absurd_latency(timestamp: int) -> None:
    world = World(scorer=Score())
    late = valid("a")
    late = msgspec.structs.replace(late, timestamp=timestamp)
    (outcome,) = outcomes(await process(world, late))
    assert outcome.timings.total_ms == 0


async def test_nothing_to_do_makes_no_transaction() -> None:
    world = World(scorer=Score())
    assert not await process(world)
    assert world.work.due() is None
    await process(world, record(b"bad", key=b"r"))
    await process(world, final=True)
    assert world.work.due() is None
    assert not await process(world, final=True)


async def test_a_ledger_begins_where_reading_began() -> None:
    world = World(scorer=Score())
    world.broker.position = 0
    output = await process(world, valid("a", 5))
    ledger = decode_metadata(output.metadata).ledger
    assert ledger is not None
    assert (ledger.start, ledger.end, ledger.requests) == (0, 6, 1)


def test_the_runtime_of_an_agent_without_a_model_names_no_version_of_it() -> None:
    assert Runtime(agent()).versions.ml is None
    assert runtime().versions.ml == "ml@7"
