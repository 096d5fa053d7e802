"""What the edition step would make, from what it found; no server is asked."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pointsman.streams.settings import Settings
from pointsman.streams.store.edition import (
    AGGREGATES,
    APPEND_ONLY,
    FEATURES,
    HYPERTABLES,
    MINUTES,
    REFRESH_S,
    Found,
    Policy,
    Server,
    Wanted,
    features,
    steps,
)

PLAIN = Server("17.5")
READY = Server("17.5", None, "2.19.3", preloaded=True, creatable=True)
APACHE = replace(READY, installed="2.19.3", license="apache")
FULL = replace(APACHE, license="timescale")
DONE = Found(
    server=FULL,
    hypertables=dict.fromkeys(HYPERTABLES, True),
    views=frozenset(AGGREGATES),
    policies={
        **{(f"{view}_cagg", "refresh"): Policy(None, REFRESH_S) for view in AGGREGATES},
        **{(table, "compression"): Policy(7) for table in MINUTES},
    },
)


def names(found: Found, wanted: Wanted | None = None) -> list[str]:
    return [step.name for step in steps(found, wanted or Wanted())]


@pytest.mark.parametrize(
    "server",
    [
        PLAIN,
        replace(READY, preloaded=False),
        replace(READY, creatable=False),
    ],
)
def test_nothing_is_made_where_the_extension_cannot_be(server: Server) -> None:
    assert server.edition == "postgresql"
    assert names(Found(server=server)) == []


def test_the_extension_comes_first_and_then_what_every_edition_has() -> None:
    tables = [f"hypertable {table}" for table in HYPERTABLES]
    assert names(Found(server=READY)) == ["extension timescaledb", *tables]
    assert names(Found(server=APACHE)) == tables


def test_the_full_edition_has_all_of_it_and_a_done_one_needs_nothing() -> None:
    made = names(Found(server=FULL))
    assert len(made) == len(HYPERTABLES) + 2 * len(AGGREGATES) + 2 * len(MINUTES)
    assert len(set(made)) == len(made)
    assert names(DONE) == []


def test_only_what_is_missing_is_made() -> None:
    half = dict(list(DONE.hypertables.items())[1:])
    assert names(Found(server=APACHE, hypertables=half)) == ["hypertable agent_decisions"]


def test_a_view_that_was_made_anew_and_a_policy_of_another_hand_are_put_right() -> None:
    views = DONE.views - {"decision_hours"}
    policies = {**DONE.policies, ("decision_label_hours_cagg", "refresh"): Policy(None, None)}
    found = Found(server=FULL, hypertables=DONE.hypertables, views=views, policies=policies)
    made = steps(found, Wanted())
    assert [step.name for step in made] == [
        "continuous aggregate decision_hours_cagg",
        "refresh of decision_label_hours_cagg",
    ]
    assert made[1].sql.index("remove_continuous") < made[1].sql.index("add_continuous")


def test_policies_follow_the_settings() -> None:
    wanted = Wanted(compress_after_days=0, aggregate_retention_days=30)
    assert names(DONE, wanted) == [
        *(f"compression of {table} no longer" for table in MINUTES),
        *(f"retention of {table} after 30 days" for table in MINUTES),
    ]
    assert Wanted.of(Settings(compress_after_days=3, aggregate_retention_days=4)) == Wanted(3, 4)
    assert Wanted.of(Settings()) == Wanted()


def test_only_tables_that_refuse_truncate_lose_their_trigger_while_they_are_moved() -> None:
    for step in steps(Found(server=APACHE), Wanted()):
        table = step.name.split()[-1]
        assert ("DROP TRIGGER" in step.sql) == ("CREATE TRIGGER" in step.sql) == (table in APPEND_ONLY)
        assert "{" not in step.sql


def test_a_policy_whose_last_run_failed_is_told() -> None:
    policies = {
        **DONE.policies,
        ("decision_label_hours_cagg", "refresh"): Policy(None, REFRESH_S, failing=True),
    }
    found = Found(server=FULL, hypertables=DONE.hypertables, views=DONE.views, policies=policies)
    assert names(found) == []
    told = features(found, Wanted())[2]
    assert (told.state, told.found) == ("failing", "decision_label_hours_cagg")
    assert "job_errors" in told.way


def states(found: Found, wanted: Wanted | None = None) -> list[str]:
    return [each.state for each in features(found, wanted or Wanted())]


def test_each_feature_says_how_it_stands_and_the_way_to_it() -> None:
    assert [each.name for each in features(DONE, Wanted())] == list(FEATURES)
    assert states(DONE) == ["present"] * 4 + ["off"]
    assert states(DONE, Wanted(7, 30)) == ["present"] * 4 + ["missing"]
    assert states(Found(server=APACHE)) == ["present", "missing", *["unavailable"] * 3]
    assert states(Found(server=READY)) == ["missing", "missing", *["unavailable"] * 3]
    ways = {
        PLAIN: "install TimescaleDB",
        replace(READY, preloaded=False): "shared_preload_libraries",
        replace(READY, creatable=False): "CREATE EXTENSION",
    }
    for server, way in ways.items():
        found = features(Found(server=server), Wanted())
        assert [each.state for each in found] == ["unavailable"] * 5
        assert all(way in each.way for each in found)
    assert "full edition" in features(Found(server=APACHE), Wanted())[-1].way
