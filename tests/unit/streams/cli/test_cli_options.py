"""Options that are settings: their names, where they win, and what `doctor --settings` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams.cli.failure import Usage
from pointsman.streams.cli.options import EVERYTHING, pairs, with_settings
from pointsman.streams.settings import NAMES, Loaded, meaning


def settings(pointsman: Callable[..., Any], *words: str) -> dict[str, dict[str, str]]:
    ran = pointsman("doctor", "--settings", "--json", *words)
    assert ran.code == 0, ran.err
    return {row["name"]: row for row in json.loads(ran.out)}


def test_every_setting_is_listed_with_its_meaning(pointsman: Callable[..., Any]) -> None:
    found = settings(pointsman)
    assert list(found) == list(NAMES)
    assert all(row["meaning"] for row in found.values())
    assert {row["origin"] for row in found.values()} == {"default"}


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    pointsman: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "some settings.toml"
    file.write_text('group = "file"\nkafka = "file:1"\ntopic_prefix = "file-"\n')
    monkeypatch.setenv("POINTSMAN_GROUP", "environment")
    monkeypatch.setenv("POINTSMAN_KAFKA", "environment:1")
    found = settings(pointsman, "--config", str(file), "--kafka", "line:1")
    assert (found["topic_prefix"]["value"], found["topic_prefix"]["origin"]) == ("file-", "file")
    assert (found["group"]["value"], found["group"]["origin"]) == ("environment", "environment")
    assert (found["kafka"]["value"], found["kafka"]["origin"]) == ("line:1", "command line")


def test_any_setting_can_be_set(pointsman: Callable[..., Any]) -> None:
    found = settings(pointsman, "--set", "model-deadline-ms=75", "--set", "log_level=debug")
    assert found["model_deadline_ms"]["value"] == "75"
    assert found["log_level"]["value"] == "debug"


def test_a_password_is_never_shown(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("doctor", "--settings", "--dsn", "postgresql://me:geheim@host/db")
    assert ran.code == 0
    assert "geheim" not in ran.out
    assert "postgresql://me:***@host/db" in ran.out


def test_an_impossible_value_names_the_setting(pointsman: Callable[..., Any]) -> None:
    ran = pointsman("doctor", "--settings", "--set", "metrics_port=many")
    assert ran.code == 2
    assert ran.err.startswith("pointsman: metrics_port: ")


def test_lists_come_apart_at_their_separator() -> None:
    seen: list[Loaded] = []

    @with_settings("agents", "lanes")
    def command(loaded: Loaded) -> None:
        seen.append(loaded)

    command(agents="a b:c", lanes="sink,live", config=None, set_=[])  # type: ignore[call-arg]
    assert seen[0].settings.agents == ("a b", "c")
    assert seen[0].settings.lanes == ("sink", "live")


def test_an_option_for_a_setting_that_does_not_exist_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="nosuch"):
        with_settings("nosuch")


def test_the_help_says_what_the_settings_say(
    pointsman: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    ran = pointsman("up", "--help")
    for name in EVERYTHING:
        assert f"--{name.replace('_', '-')}" in ran.out
        assert meaning(name)[:40] in ran.out


@given(st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True), st.text(max_size=20), max_size=5))
def test_pairs_come_back_as_they_were_given(wanted: dict[str, str]) -> None:
    assert pairs([f"{name}={value}" for name, value in wanted.items()]) == wanted


@pytest.mark.parametrize("text", ["", "name", "=value"])
def test_a_pair_without_name_or_sign_is_bad_usage(text: str) -> None:
    with pytest.raises(Usage, match="NAME=VALUE"):
        pairs([text])
