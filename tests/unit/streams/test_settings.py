"""Settings: who wins, what is refused and by which name, what is masked, what each means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pointsman.models.agent import Bands
from pointsman.models.satisfaction import Weight
from pointsman.schemas.errors import InvalidSetting
from pointsman.streams.settings import NAMES, PREFIX, Settings, load, mask, meaning, shown


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "pointsman.toml"
        path.write_text(text)
        return str(path)

    return write


def test_the_command_line_wins_then_the_environment_then_the_file_then_the_default(config: Any) -> None:
    file = config("partitions = 2\ngroup = 'file'\nlog = 'json'\n")
    found = load(
        {"partitions": 8, "log": None}, {"POINTSMAN_PARTITIONS": "6", "POINTSMAN_GROUP": "env"}, file
    )
    assert (found.settings.partitions, found.settings.group, found.settings.log) == (8, "env", "json")
    assert found.settings.replication == 1
    origins = {name: found.origins[name] for name in ("partitions", "group", "log", "replication")}
    assert origins == {
        "partitions": "command line",
        "group": "environment",
        "log": "file",
        "replication": "default",
    }


def test_the_file_can_be_named_by_the_environment(config: Any) -> None:
    assert load(environ={"POINTSMAN_CONFIG": config("partitions = 3")}).settings.partitions == 3


def test_without_sources_all_is_default() -> None:
    found = load(environ={})
    assert found.settings == Settings()
    assert set(found.origins.values()) == {"default"}
    assert (found.settings.kafka, found.settings.dsn, found.settings.model_deadline_ms) == ("", "", 40)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_meaning_and_a_name_in_the_environment(name: str) -> None:
    text = meaning(name)
    assert text.endswith(".")
    assert len(text) > 15
    with pytest.raises(InvalidSetting):
        load(environ={PREFIX + name.upper() + "X": "1"})


@pytest.mark.parametrize("name", ["partition", "kafka_servers", "model-deadline-ms"])
def test_an_unknown_setting_is_refused_by_its_name_wherever_it_stands(name: str, config: Any) -> None:
    variable = PREFIX + name.upper()
    with pytest.raises(InvalidSetting, match=variable):
        load(environ={variable: "1"})
    with pytest.raises(InvalidSetting, match=name):
        load(environ={}, config=config(f"{name} = 1"))
    with pytest.raises(InvalidSetting, match=name):
        load({name: 1}, environ={})


def test_an_unknown_setting_is_told_what_it_may_have_meant() -> None:
    with pytest.raises(InvalidSetting, match="did you mean partitions"):
        load(environ={"POINTSMAN_PARTITION": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", "0"),
        ("partitions", "many"),
        ("partitions", "1.5"),
        ("partitions", ""),
        ("shadow_percent", "101"),
        ("shadow_percent", "nan"),
        ("model_breaker_open_s", "0"),
        ("model_breaker_open_s", "inf"),
        ("log", "xml"),
        ("lanes", "decisions,sinks"),
        ("group", "with space"),
        ("bands", "0.8"),
        ("request_bytes_max", "800001"),
        ("transaction_deadline_ms", "10"),
        ("metrics_port", "65536"),
    ],
)
def test_an_impossible_value_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=PREFIX + name.upper()):
        load(environ={PREFIX + name.upper(): value})


@pytest.mark.parametrize("text", ['partitions = "2"', "log = 1", "dsn = 5", "partitions = true"])
def test_the_file_says_numbers_as_numbers_and_texts_as_texts(text: str, config: Any) -> None:
    with pytest.raises(InvalidSetting, match=text.split(maxsplit=1)[0]):
        load(environ={}, config=config(text))


def test_lists_are_separated_in_the_environment_and_lists_in_the_file(config: Any) -> None:
    environ = {"POINTSMAN_AGENTS": "a:/b/c:", "POINTSMAN_LANES": "sink,live"}
    found = load(environ=environ).settings
    assert (found.agents, found.lanes) == (("a", "/b/c"), ("sink", "live"))
    found = load(environ={}, config=config('agents = ["a", "b"]\nlanes = []')).settings
    assert (found.agents, found.lanes) == (("a", "b"), ())


def test_bands_come_from_the_file(config: Any) -> None:
    file = config("[bands.small]\nact = 0.9\nvalidate = 0.7\n[bands.other]\nact = 1\n")
    assert load(environ={}, config=file).settings.bands == {
        "small": Bands(act=0.9, validate=0.7),
        "other": Bands(act=1.0),
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[bands.small]\nact = 0.5\nvalidate = 0.7", "bands"),
        ("[bands.small]\nact = 1.5", "bands"),
        ("[bands.small]\nact = nan", "bands"),
        ("[bands.small]\nact = 'high'", "bands"),
        ("[bands.small]\nactt = 0.9", r"bands\.small\.actt"),
        ("[bands]\nsmall = 0.9", "bands"),
        ("bands = 1", "bands"),
    ],
)
def test_impossible_or_misspelt_bands_are_refused(text: str, named: str, config: Any) -> None:
    with pytest.raises(InvalidSetting, match=named):
        load(environ={}, config=config(text))


def test_weights_of_signals_come_from_the_file(config: Any) -> None:
    file = config("[satisfaction]\naccepted = { points = 4.5, weight = 0.5 }\nrating = { weight = 2 }\n")
    assert load(environ={}, config=file).settings.satisfaction == {
        "accepted": Weight(0.5, 4.5),
        "rating": Weight(2.0),
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("acepted = { points = 4, weight = 1 }", r"satisfaction\.acepted"),
        ("accepted = { weight = 1 }", r"satisfaction\.accepted\.points"),
        ("rating = { points = 4, weight = 1 }", r"satisfaction\.rating\.points"),
        ("accepted = { points = 4, weigth = 1 }", r"satisfaction\.accepted\.weigth"),
        ("accepted = { points = 6, weight = 1 }", "satisfaction"),
        ("accepted = { points = 4, weight = -1 }", "satisfaction"),
        ("accepted = { points = 4 }", "satisfaction"),
        ("accepted = 4", r"satisfaction\.accepted"),
    ],
)
def test_impossible_or_misspelt_weights_are_refused(text: str, named: str, config: Any) -> None:
    with pytest.raises(InvalidSetting, match=named):
        load(environ={}, config=config(f"[satisfaction]\n{text}\n"))


@pytest.mark.parametrize("text", ["partitions = ", "\xff"])
def test_a_file_that_is_no_toml_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pointsman.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSetting, match="POINTSMAN_CONFIG"):
        load(environ={}, config=str(path))


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="cannot read"):
        load(environ={}, config=str(tmp_path / "none.toml"))


def test_variables_of_others_and_of_the_tests_are_left_alone() -> None:
    environ = {"PATH": "/bin", "POINTSMANX": "1", "POINTSMAN_TEST_KAFKA": "k", "POINTSMAN_TEST_DSN": "d"}
    assert load(environ=environ).settings == Settings()


@pytest.mark.parametrize(
    "servers", [":::", "a:b", "a:0", "a:65536", "[::1", "[::z]:1", ",", "a,,b", "PLAINTEXT://a:1", "a b"]
)
def test_servers_that_are_no_addresses_are_refused(servers: str) -> None:
    with pytest.raises(InvalidSetting, match="kafka: Expected host:port"):
        load({"kafka": servers}, {})


@pytest.mark.parametrize(
    "servers", ["a", "a:9092", "a:1, b:2", "10.0.0.1:9092", "[::1]:9092", "ü.example:1", ""]
)
def test_servers_are_hosts_with_ports(servers: str) -> None:
    assert load({"kafka": servers}, {}).settings.kafka == servers


@pytest.mark.parametrize(
    "dsn", ["hunter2", "postgresql://[hunter2", "host=a hunter2", "user=a password=hunter2\0"]
)
def test_a_connection_string_that_is_none_is_refused_and_not_shown(dsn: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        load({"dsn": dsn}, {})
    assert raised.value.name == "dsn"
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:S3cret@host/db",
        "postgresql://me:S3cret@host:5432/db?sslmode=require",
        "postgresql://me:S3cr/S3cret:S3@S3cret@host/db",
        "postgresql://:S3cret@host/db",
        "postgres://host/db?user=me&password=S3cret&sslmode=require",
        "host=h user=me password=S3cret dbname=db",
        "host=h password = 'S3cret S3' dbname=db",
        r"host=h password='it\'s S3cret' dbname=db",
    ],
)
def test_a_password_is_never_shown(dsn: str) -> None:
    for text in (mask(dsn), shown("dsn", dsn)):
        assert "S3" not in text
        assert "***" in text
        assert "h" in text
        assert ("db" in text) is True


def test_keys_of_senders_are_never_shown(tmp_path: Path) -> None:
    config = tmp_path / "pointsman.toml"
    config.write_text('[feedback_keys]\nmonitor = "S3cret-S3cret-S3cret"\n')
    found = load({}, {}, str(config)).settings
    assert found.feedback_keys == {"monitor": "S3cret-S3cret-S3cret"}
    assert shown("feedback_keys", found.feedback_keys) == "monitor: ***"
    config.write_text('[feedback_keys]\nmonitor = "S3cret"\n')
    with pytest.raises(InvalidSetting, match=r"feedback_keys: .*16") as raised:
        load({}, {}, str(config))
    assert "S3cret" not in str(raised.value)


def test_what_holds_no_secret_is_shown_as_it_is() -> None:
    assert mask("postgresql://me@host:5432/db") == "postgresql://me@host:5432/db"
    assert shown("dsn", "") == ""
    assert shown("kafka", "a:9092,b:9092") == "a:9092,b:9092"
    assert shown("partitions", 4) == "4"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"POINTSMAN_RETRY_DELAYS_MS": "250,1000"}, (250, 1_000)),
        ({"POINTSMAN_RETRY_DELAYS_MS": ""}, ()),
        ({}, (5_000, 15_000, 30_000)),
    ],
)
def test_delays_are_a_list_of_numbers(given: dict[str, str], expected: tuple[int, ...]) -> None:
    assert load(environ=given).settings.retry_delays_ms == expected


@pytest.mark.parametrize("text", ["5s", "0", "-1", "1.5", ",".join(["1"] * 9)])
def test_delays_that_cannot_be_are_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidSetting, match="RETRY_DELAYS_MS"):
        load(environ={"POINTSMAN_RETRY_DELAYS_MS": text})


def test_retries_can_be_switched_off_and_an_unknown_reason_is_refused(config: Any) -> None:
    assert load(environ={"POINTSMAN_RETRY_REASONS": ""}).settings.retry_reasons == ()
    assert load(environ={}, config=config("retry_reasons = ['try_later']\n")).settings.retry_reasons == (
        "try_later",
    )
    with pytest.raises(InvalidSetting, match="RETRY_REASONS"):
        load(environ={"POINTSMAN_RETRY_REASONS": "not_json"})
