"""The demo's figures and their table: right numbers for both arms, and sentences that the numbers allow."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.evaluate import Estimate
from pointsman.models.ml import MlDecider
from pointsman.streams.demo.figures import Result, Side, example, memory, twins
from pointsman.streams.demo.progress import Reporter, plain
from pointsman.streams.demo.report import interval, points, show, verdict
from pointsman.streams.settings import Loaded, Settings, load
from pointsman.streams.store.read import Labelled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YES, NO = "docs_needed", "docs_not_needed"


def known(number: int, label: str, rules: str, ml: str | None, **changes: Any) -> Labelled:
    made: dict[str, Any] = {
        "decision_id": f"run-{number}", "created_at": NOW, "label": label, "served": rules, "rules": rules,
        "ml": ml, "source": "deterministic", "arm": "control", "ml_score": 0.4, "ml_in_shadow": False,
    }  # fmt: skip
    return Labelled(**(made | changes))


def result(**changes: Any) -> Result:
    side = Side(
        source=None, arm=None, decisions=4, ids=4, fallbacks=0, validations=1, escalations=1,
        p50_ms=10.0, p95_ms=20.0, p99_ms=30.0,
    )  # fmt: skip
    ledger = {"requests": 4, "outcomes": 4, "pending": 0, "dead_letters": 0, "duplicates": 0, "difference": 0}
    made: dict[str, Any] = {
        "input": "a [repository]", "commits": 9, "repositories": 1, "since": NOW, "until": NOW,
        "rollout_percent": 50.0, "model": "2026.1.1", "requests": 4, "outcomes": 4, "rows": 4, "doubled": 0,
        "feedback": 6, "ledger": ledger, "differences": [], "seconds": 2.0, "per_second": 2.0,
        "sides": [side, msgspec.structs.replace(side, source="ml", arm="candidate", decisions=3)],
        "twins": twins([known(1, YES, NO, YES), known(2, NO, NO, NO)]), "memory": None, "labelled": 2,
        "fallbacks": {"model_timeout": 1}, "signals": {"accepted": 3, "reverted": 1}, "example": "run-1",
        "notes": ["a note [in brackets]"], "explain": "pointsman explain run-1",
    }  # fmt: skip
    return Result(**(made | changes))


def shown(what: Result) -> str:
    out = io.StringIO()
    show(what, Console(file=out, width=160))
    return out.getvalue()


def test_both_arms_are_measured_on_the_decisions_that_both_answered() -> None:
    found = twins(
        [
            known(1, YES, NO, YES),
            known(2, YES, YES, YES, ml_in_shadow=True),
            known(3, NO, NO, NO),
            known(4, NO, YES, NO),
            known(5, NO, NO, None),  # the model never answered: no pair
        ]
    )
    assert found is not None
    assert (found.n, found.positives, found.in_shadow) == (4, 2, 1)
    assert (found.rules.accuracy.value, found.model.accuracy.value) == (0.5, 1.0)
    assert found.model_minus_rules.accuracy.value == 0.5
    assert found.rules.success.value == pytest.approx((0 + 1 + 1 + 0.6) / 4)  # missed 2.5, needless 1


def test_what_remembering_adds_is_measured_against_the_same_changes_in_a_repository_that_nobody_knows() -> (
    None
):
    inputs = [msgspec.convert(each, AGENT.input_type) for each in AGENT.examples]
    unknown = AGENT.rows(inputs)
    rows = {f"run-{number}": row for number, row in enumerate(unknown)}
    same = [known(n, YES, rules.prediction, None) for n, rules in enumerate(AGENT.rules.decide(unknown))]
    assert AGENT.model is not None
    model = MlDecider.load(AGENT.model, AGENT.predictions).decide(unknown)
    same = [
        msgspec.structs.replace(each, ml=answer.prediction) for each, answer in zip(same, model, strict=True)
    ]
    nothing = memory(same, rows, AGENT)
    assert nothing is not None
    assert nothing.rules.accuracy.value == nothing.model.accuracy.value == 0.0

    other = [msgspec.structs.replace(each, rules=YES, ml=YES) for each in same]
    added = memory(other, rows, AGENT)
    assert added is not None
    wrong = [sum(each.rules != YES for each in same), sum(each.ml != YES for each in same)]
    assert added.rules.accuracy.value == pytest.approx(wrong[0] / len(same))
    assert added.model.accuracy.value == pytest.approx(wrong[1] / len(same))
    assert "What the repository's past adds" in shown(result(memory=added))


def test_nothing_is_said_of_remembering_where_no_model_answered() -> None:
    assert memory([known(1, YES, YES, None)], {}, AGENT) is None
    assert "past adds" not in shown(result())


def test_without_a_pair_there_is_nothing_to_compare() -> None:
    assert twins([known(1, YES, YES, None)]) is None
    assert "Rules and model" not in shown(result(twins=None))


def test_the_example_is_one_on_which_they_disagree_and_the_model_was_right() -> None:
    rows = [
        known(1, NO, NO, NO, ml_score=0.0),
        known(2, NO, NO, YES, source="ml", ml_score=0.99),
        known(3, YES, NO, YES, source="ml", ml_score=0.9),
        known(4, YES, NO, YES, ml_score=0.95),
    ]
    assert example(rows) == "run-3"
    assert example(rows[:1]) == "run-1"
    assert example([]) is None


def test_the_table_says_it_all() -> None:
    text = shown(result())
    for part in (
        "4 decisions from 9 commits: a [repository], 2026-01-01 to 2026-01-01",
        "balanced accuracy",
        "model 2026.1.1",
        "candidate",
        "4 = 4 = 4",
        "difference 0",
        "accepted 3, reverted 1",
        "model_timeout 1",
        "2 decisions/s over 2.0 s",
        "a note [in brackets]",
        "pointsman explain run-1",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("low", "value", "high", "says"),
    [
        (0.01, 0.02, 0.03, "model does better"),
        (-0.03, -0.02, -0.01, "rules do better"),
        (-0.1, 0.1, 0.2, "do not tell"),
    ],
)
def test_a_verdict_only_where_the_interval_allows_one(
    low: float, value: float, high: float, says: str
) -> None:
    one = result()
    assert one.twins is not None
    by = msgspec.structs.replace(one.twins.model_minus_rules, success=Estimate(value, low, high))
    with_it = msgspec.structs.replace(one, twins=msgspec.structs.replace(one.twins, model_minus_rules=by))
    assert says in next(verdict(with_it))


def test_a_difference_in_the_accounts_cannot_be_overlooked() -> None:
    assert "NOT ACCOUNTED FOR: a hole" in shown(result(differences=["a hole"]))


def test_shares_and_differences_are_shown_with_their_intervals() -> None:
    assert interval(Estimate(0.5, 0.25, 0.75)) == "50.0 % (25.0–75.0)"
    assert points(Estimate(-0.01, -0.02, 0.03)) == "-1.0 (-2.0 to +3.0)"


def test_plain_progress_has_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(50, 200, 25.0) == "50 of 200 decisions (25 %), 25/s, 6 s left"
    assert plain(0, 200, 0.0).endswith("time left unknown")
    with Reporter() as reporter:
        reporter.say("hello")
        reporter.begin("decisions", 3)
        reporter.at(1)  # too soon for a second line
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def loaded(**options: Any) -> Loaded:
    return load(options, {})


def test_on_servers_that_were_given_the_demo_keeps_apart_from_real_traffic() -> None:
    from pointsman.streams.demo.run import adapted

    given = adapted(loaded(kafka="real:9092"))
    assert (given.topic_prefix, given.group) == ("demo-", "demo")
    named = adapted(loaded(kafka="real:9092", topic_prefix="mine-", group="mine", metrics_port=7000))
    assert (named.topic_prefix, named.group, named.metrics_port) == ("mine-", "mine", 7000)
    own = adapted(loaded())
    assert (own.topic_prefix, own.group, own.metrics_port) == ("", Settings().group, 0)


def test_a_data_folder_that_cannot_be_written_gives_way_to_a_temporary_one(tmp_path: Path) -> None:
    from pointsman.streams.demo.run import home

    (tmp_path / "file").touch()
    with home(loaded(data_dir=str(tmp_path / "file" / "below")).settings) as folder:
        assert folder.is_dir()
        assert tmp_path not in folder.parents
    assert not folder.exists()


def test_two_demos_never_share_a_folder_and_the_second_finds_it_empty(tmp_path: Path) -> None:
    from pointsman.streams.cli.failure import Usage
    from pointsman.streams.demo.run import home

    settings = loaded(data_dir=str(tmp_path / "some data")).settings
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with home(settings) as folder:
        (folder / "postgres").symlink_to(elsewhere)
        (elsewhere / "file").touch()
        with pytest.raises(Usage, match="another demo uses"), home(settings):
            pytest.fail("two demos in one folder")
        assert (elsewhere / "file").exists()
    with home(settings) as folder:
        assert [each.name for each in folder.iterdir()] == ["lock"]
    assert not elsewhere.exists()
