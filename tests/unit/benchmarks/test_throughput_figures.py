"""Runs to rows: ratios are taken round by round, promised ones carry their bounds, noise is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import figures, roster, throughput
from benchmarks.contenders.task import Task
from benchmarks.data import examples
from benchmarks.throughput import Measured, Plan, Run, reasons, rows
from pointsman.infra.dev.real_parts import MissingPartError
from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.schemas.codec import Decoder
from pointsman.schemas.request import DecisionRequest

PLAN = Plan(messages=1000, warm_up=1000, runs=3, partitions=4, percent=50.0, commits=None)


def run(wall_s: float, cpu_s: float = 0.8, fell_back: float = 0.0) -> Run:
    return Run(1000, wall_s, cpu_s, fell_back=fell_back)


def measured(**runs: list[Run]) -> Measured:
    return Measured(PLAN, 650.0, runs)


QUIET = measured(bare=[run(1.0), run(1.2), run(1.4)], lane=[run(0.5), run(0.6), run(0.7)])


def test_a_ratio_is_taken_round_by_round() -> None:
    assert QUIET.ratios("lane", "bare") == [2.0, 2.0, 2.0]


def test_a_promised_ratio_carries_its_bounds() -> None:
    row = rows(QUIET)[0]
    assert (row.what, row.median, row.least, row.greatest) == (figures.OVER_BARE.says, 2.0, 2.0, 2.0)
    assert (row.at_least, row.aim, row.runs) == (1.0, 1.2, 3)


def test_what_did_not_run_has_no_row() -> None:
    whats = {row.what for row in rows(QUIET)}
    assert figures.OVER_FAUST.says not in whats
    assert not any("faust" in what for what in whats)


def test_cpu_counts_the_model_process_too() -> None:
    assert Run(1000, 1.0, 0.01, model_cpu_s=0.02).cpu_us == pytest.approx(30.0)


def test_rounds_that_are_alike_are_quiet() -> None:
    assert reasons(QUIET) == []


@pytest.mark.parametrize(
    ("noisy", "word"),
    [
        (measured(bare=[run(1.0, 0.80), run(1.0, 0.95), run(1.0, 0.80)]), "CPU"),
        (measured(bare=[run(1.0, 0.40)] * 3), "had 40% of a processor"),
        (measured(bare=[run(1.0)] * 3, lane=[run(0.5), run(0.5), run(0.8)]), "lane over bare"),
        (measured(bare=[run(1.0)] * 3, lane=[run(0.5), run(0.5), run(0.5, fell_back=0.2)]), "late"),
    ],
)
def test_what_is_noise_is_said(noisy: Measured, word: str) -> None:
    (reason,) = reasons(noisy)
    assert word in reason


def test_rounds_that_did_not_fit_are_said() -> None:
    plan = dataclasses.replace(PLAN, runs=5, budget_s=10.0)
    assert reasons(Measured(plan, 650.0, QUIET.runs)) == ["only 3 of 5 rounds within 10.0 s"]


def test_a_few_rounds_tell_no_spread() -> None:
    plan = dataclasses.replace(PLAN, runs=1)
    assert reasons(Measured(plan, 650.0, {"bare": [run(1.0)]})) == ["1 rounds, where 3 tell a spread"]


@pytest.mark.parametrize(("budget_s", "rounds"), [(None, 3), (100.0, 3), (25.0, 2), (1.0, 1)])
def test_no_round_begins_that_would_end_too_late(
    monkeypatch: pytest.MonkeyPatch, budget_s: float | None, rounds: int
) -> None:
    """A round of two contenders takes 10 s of this clock."""
    now = [0.0]

    def one(*_: object) -> Run:
        now[0] += 5.0
        return run(1.0)

    monkeypatch.setattr(throughput, "one", one)
    monkeypatch.setattr(throughput.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(throughput, "requests", lambda count, _: [(b"%d" % i, b"x") for i in range(count)])
    plan = dataclasses.replace(PLAN, budget_s=budget_s)
    found = throughput.measure("nowhere:1", roster.chosen("lane"), plan)
    assert {name: len(runs) for name, runs in found.runs.items()} == {"bare": rounds, "lane": rounds}


def test_who_comes_first_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def one(_: str, contender: roster.Contender, *_more: object) -> Run:
        order.append(contender.name)
        return run(1.0)

    monkeypatch.setattr(throughput, "one", one)
    monkeypatch.setattr(throughput, "requests", lambda count, _: [(b"%d" % i, b"x") for i in range(count)])
    throughput.measure("nowhere:1", roster.chosen("lane,quix"), PLAN)
    assert order.pop(0) == "bare", "unmeasured, for the broker"
    assert order == ["bare", "lane", "quix", "lane", "quix", "bare", "quix", "bare", "lane"]


def test_every_ratio_that_is_promised_or_shown_has_its_contenders() -> None:
    pairs = set(figures.RATIOS.values())
    pairs |= {(ours, each) for ours, others in figures.LIKE_WITH_LIKE.values() for each in others}
    assert {name for pair in pairs for name in pair} == set(roster.ALL)


def test_like_is_compared_with_like() -> None:
    def work(name: str) -> tuple[bool, bool]:
        return roster.ALL[name].decides, roster.ALL[name].rules_only

    for ours, others in figures.LIKE_WITH_LIKE.values():
        assert {work(each) for each in others} == {work(ours)}


def test_the_bare_loop_always_takes_part() -> None:
    assert [each.name for each in roster.chosen("lane")] == ["bare", "lane"]
    assert len(roster.chosen("")) == len(roster.ALL)
    with pytest.raises(SystemExit, match="no contender lame"):
        roster.chosen("lane,lame")


def test_what_cannot_take_part_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def lacking() -> None:
        raise MissingPartError("no such thing here")

    absent = roster.Contender("absent", "nobody", lambda _: [], needs=lacking)
    assert roster.able([roster.ALL["bare"], absent]) == [roster.ALL["bare"]]
    assert capsys.readouterr().out == "absent is not measured: no such thing here\n"


def test_only_a_hot_contender_gets_messages_that_are_not_measured() -> None:
    task = Task("kafka:1", "p-", "in", "out", 1000, 50.0, "p-", warm_up=500)
    assert roster.ALL["lane"].task(task).warm_up == 0
    streams = roster.ALL["kafka_streams"].task(task)
    assert (streams.warm_up, streams.percent, streams.shadow_percent) == (500, 0.0, 0.0)
    assert not roster.ALL["bare"].task(task).decides


def test_messages_of_the_short_form_are_alike_everywhere() -> None:
    made = list(examples(7))
    assert made == list(examples(9))[:7]
    assert len({key for key, _ in made}) == 7
    for key, value in made:
        request = Decoder(DecisionRequest).decode(value)
        assert request.id.encode() == key
        Decoder(AGENT.input_type, "input").decode(request.input)


def test_details_name_no_place_of_one_machine() -> None:
    plan = Plan(1, 1, 1, 4, 50.0, Path("/somewhere/commits.jsonl.gz"))
    assert "/somewhere" not in str(Measured(plan, 1.0, QUIET.runs).details())
