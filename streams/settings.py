"""Settings: one typed place. The command line wins, then the environment, then the TOML file, then the default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from pointsman.models.agent import Bands
from pointsman.models.satisfaction import Signal, Weight
from pointsman.schemas.errors import InvalidSetting
from pointsman.schemas.topics import RETRY_DELAYS_MS
from pointsman.streams.values import beginning, check_address, check_bands, check_satisfaction, check_texts

PREFIX: Final = "POINTSMAN_"
OUTSIDE: Final = frozenset({"POINTSMAN_CONFIG", "POINTSMAN_TEST_KAFKA", "POINTSMAN_TEST_DSN"})
"""Variables of ours that are no settings: where the file is, and where the tests' servers are."""
BATCH_INFLATED_BYTES_MAX: Final = 64 * 1024 * 1024
"""A broker takes batches of 1 MB; JSON inflates to 5 to 20 times that, messages much alike to 60 times."""
SECRET: Final = frozenset({"dsn", "feedback_keys"})
FILE_BYTES_MAX: Final = 64 * 1024
"""Ten times all settings with a comment on each; a key of a hundred thousand dots would take the parser minutes."""

Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Days = Annotated[int, Meta(ge=0, le=36_500)]


def data_home() -> str:
    """Where data lies by default, by the XDG convention."""
    home = os.environ.get("XDG_DATA_HOME")
    return str((Path(home) if home else Path.home() / ".local" / "share") / "pointsman")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, checked. The string below each is its meaning, shown by `pointsman doctor --settings`."""

    kafka: Annotated[str, Meta(description="Bootstrap servers, host:port,…; empty: the embedded broker.")] = (
        ""
    )
    dsn: Annotated[str, Meta(description="PostgreSQL connection string; empty: the embedded server.")] = ""
    agents: Annotated[
        tuple[str, ...],
        Meta(description="Folders of further agents; in the environment separated by colons."),
    ] = ()
    bands: Annotated[
        dict[str, Bands],
        Meta(description="Confidence bands by agent; in the file: [bands.NAME] act = 0.8, validate = 0.6."),
    ] = {}
    feedback_keys: Annotated[
        dict[str, Annotated[str, Meta(min_length=16, max_length=1_000)]],
        Meta(
            description="Keys of the senders whose feedback may report critical errors and safety violations; in the file: [feedback_keys] NAME = key of 16 characters or more."
        ),
    ] = {}
    satisfaction: Annotated[
        dict[Signal, Weight],
        Meta(
            description="What signals say of satisfaction, where it is other than by default; in the file: [satisfaction] accepted = { points = 4.0, weight = 0.25 }."
        ),
    ] = {}
    data_dir: Annotated[str, Meta(description="Where the embedded database and snapshots lie.")] = (
        msgspec.field(default_factory=data_home)
    )
    group: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,100}$(?!\n)",
            description="Consumer group, and first part of the transactional ids.",
        ),
    ] = "pointsman"
    topic_prefix: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$(?!\n)", description="Stands before the name of every topic."),
    ] = ""
    partitions: Annotated[Positive, Meta(description="Partitions of topics that `topics create` makes.")] = 4
    replication: Annotated[Positive, Meta(description="Replication factor of topics that are created.")] = 1
    lanes: Annotated[
        tuple[Literal["decisions", "sink", "live"], ...],
        Meta(description="What this worker runs; in the environment separated by commas."),
    ] = ("decisions", "sink", "live")
    delivery: Annotated[
        Literal["auto", "exactly_once", "at_least_once"],
        Meta(description="auto: exactly once, but at least once on the embedded broker, which cannot."),
    ] = "auto"
    model_url: Annotated[
        str, Meta(description="Remote model server, tcp://host:port; empty: a process of our own.")
    ] = ""
    model_deadline_ms: Annotated[
        Positive, Meta(description="How long a batch waits for the model before the rules answer.")
    ] = 40
    model_breaker_open_s: Annotated[
        float, Meta(gt=0, le=86_400, description="How long a failing model is left alone at most.")
    ] = 5.0
    shadow_percent: Annotated[
        Percent, Meta(description="Share of the requests served by rules that the model is asked too.")
    ] = 100.0
    request_bytes_max: Annotated[
        int, Meta(ge=1024, le=800_000, description="A larger request is a dead letter.")
    ] = 262_144
    batch_inflated_bytes_max: Annotated[
        int,
        Meta(
            ge=1024 * 1024,
            le=1024 * 1024 * 1024,
            description="A compressed record batch that would be larger when decompressed is a dead letter.",
        ),
    ] = BATCH_INFLATED_BYTES_MAX
    batch_records_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Requests of one partition in a transaction, at most.")
    ] = 2_000
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"],
        Meta(description="How outcomes and all else that the lanes send is compressed."),
    ] = "none"
    commit_interval_ms: Annotated[
        int,
        Meta(ge=0, le=10_000, description="Least time between two commits of a partition under load."),
    ] = 20
    commits_per_s_max: Annotated[
        Positive,
        Meta(
            description="Batches that one process commits a second, at most; the interval grows with its partitions to hold this."
        ),
    ] = 400
    batches_at_once_max: Annotated[
        Positive,
        Meta(
            description="Batches that a process decides at a time, each counted for 25 ms; what waits becomes a larger one. More where the broker is far."
        ),
    ] = 6
    fetch_wait_ms: Annotated[
        int,
        Meta(
            ge=1, le=10_000, description="How long a broker may hold a fetch while there is nothing to read."
        ),
    ] = 250
    transaction_deadline_ms: Annotated[
        int,
        Meta(ge=1_000, le=600_000, description="A transaction that takes longer is given up and done again."),
    ] = 15_000
    session_timeout_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=300_000,
            description="A worker silent for so long has lost its partitions to the others.",
        ),
    ] = 10_000
    duplicate_window_s: Annotated[
        Positive, Meta(description="How long an id is remembered, to answer it once.")
    ] = 86_400
    duplicate_ids_max: Annotated[
        Positive, Meta(description="Ids that one process remembers at most; the oldest go first.")
    ] = 400_000
    state_values_per_unit_max: Annotated[
        Positive,
        Meta(description="Values that an agent keeps of a unit; what was changed longest ago goes first."),
    ] = 5_000
    state_units_max: Annotated[
        Positive, Meta(description="Units of which an agent keeps values in a partition; the same.")
    ] = 100_000
    state_notes_max: Annotated[
        Positive,
        Meta(description="Decisions of a partition whose labels an agent can still learn from; the same."),
    ] = 200_000
    state_ttl_days: Annotated[
        Positive, Meta(description="Days after its last change at which a value or note is forgotten.")
    ] = 400
    retry_reasons: Annotated[
        tuple[Literal["unknown_agent", "feature_error", "rules_error", "try_later"], ...],
        Meta(
            description="Reasons for which a request is tried again; in the environment separated by commas; empty: none."
        ),
    ] = ("unknown_agent", "feature_error", "rules_error", "try_later")
    retry_delays_ms: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=86_400_000)], ...],
        Meta(
            max_length=8,
            description="Waits before the second, third, … attempt, each with a topic; in the environment separated by commas.",
        ),
    ] = RETRY_DELAYS_MS
    summary_interval_ms: Annotated[
        Positive, Meta(description="How often a partition publishes its summary.")
    ] = 1_000
    stalled_after_s: Annotated[
        Positive, Meta(description="Unhealthy when there is lag and no commit for so long.")
    ] = 30
    drain_s: Annotated[
        Positive, Meta(description="How long a stop may take to finish what is under way.")
    ] = 15
    audit_retention_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Days after which `pointsman audit expire` deletes decisions and what was learned of them; 0: never.",
        ),
    ] = 0
    content_retention_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="Days after which it deletes units, inputs and free texts; 0: with their decisions.",
        ),
    ] = 0
    compress_after_days: Annotated[
        Days,
        Meta(
            description="Age at which figures by the minute are compressed, on TimescaleDB's full edition; 0: never."
        ),
    ] = 7
    aggregate_retention_days: Annotated[
        Days,
        Meta(
            description="Age at which figures by the minute and hour go, on TimescaleDB's full edition; 0: never."
        ),
    ] = 0
    drift_sample_percent: Annotated[
        Percent, Meta(description="Share of the decisions that the drift watch counts; 0: no drift watch.")
    ] = 5.0
    drift_window_h: Annotated[
        int,
        Meta(ge=1, le=8_760, description="Hours that it compares with the training part, up to now."),
    ] = 24
    drift_decisions_min: Annotated[
        Positive, Meta(description="With fewer counted decisions in the window nothing has drifted.")
    ] = 500
    drift_effect_min: Annotated[
        float,
        Meta(gt=0, le=100, description="Population stability index from which a feature may have drifted."),
    ] = 0.25
    drift_alpha: Annotated[
        float,
        Meta(
            gt=0,
            lt=1,
            description="It must also be that unlikely by chance, all features of an agent together.",
        ),
    ] = 0.01
    metrics_host: Annotated[str, Meta(description="Where /metrics, /health and /ready listen.")] = "127.0.0.1"
    metrics_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65_535,
            description="Port of the worker's /metrics; the model process has the next; 0: any.",
        ),
    ] = 9310
    log: Annotated[Literal["text", "json"], Meta(description="Form of the log lines.")] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level that is logged.")
    ] = "info"


NAMES: Final = Settings.__struct_fields__
SEPARATORS: Final = {"agents": ":", "lanes": ",", "retry_reasons": ",", "retry_delays_ms": ","}
"""Settings that are lists, and what parts them in one text."""


class Loaded(Struct, frozen=True):
    """The settings, and where each came from: ``default``, ``file``, ``environment``, ``command line``."""

    settings: Settings
    origins: dict[str, str]


def load(
    options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    config: str | None = None,
) -> Loaded:
    """Settings from all sources. Raises `InvalidSetting` that names the one that is unknown or impossible."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    origins = dict.fromkeys(NAMES, "default")
    path = config or environ.get("POINTSMAN_CONFIG")
    sources = (
        ("file", _from_file(path) if path else {}),
        ("environment", _from_environment(environ)),
        ("command line", {k: v for k, v in (options or {}).items() if v is not None}),
    )
    for origin, found in sources:
        for name, value in found.items():
            values[name] = _convert(name, value, origin)
            origins[name] = origin
    return Loaded(Settings(**values), origins)


def _from_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise InvalidSetting("POINTSMAN_CONFIG", f"{path} is larger than {FILE_BYTES_MAX} bytes")
        found = tomllib.loads(content.decode())
    except OSError as error:
        raise InvalidSetting("POINTSMAN_CONFIG", f"cannot read {path}: {error.strerror}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # of all kinds: a number too long for Python is no TOML error
        raise InvalidSetting("POINTSMAN_CONFIG", f"{path} is not TOML: {error}") from error
    for name in found:
        _known(name, f"{name} (in {path})")
    return found


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in OUTSIDE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        _known(name, variable)
        separator = SEPARATORS.get(name)
        found[name] = [part for part in text.split(separator) if part] if separator else text
    return found


def _known(name: str, shown: str) -> None:
    if name not in NAMES:
        near = [known for known in NAMES if known.startswith(name[:4])]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise InvalidSetting(shown, f"no such setting{hint} (`pointsman doctor --settings` lists them)")


_TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Settings)}


def _convert(name: str, value: Any, origin: str) -> Any:
    _known(name, name)
    if name == "bands":
        check_bands(value)
    if name == "satisfaction":
        check_satisfaction(value)
    try:
        check_texts(value)
        found = msgspec.convert(value, _TYPES[name], strict=origin == "file", str_keys=True)
        check_address(name, found)
    except (msgspec.ValidationError, ValueError) as error:
        shown = PREFIX + name.upper() if origin == "environment" else name
        told = "what stands there" if name in SECRET else beginning(value)
        raise InvalidSetting(shown, f"{error}, not {told} (from the {origin})") from error
    return found


def meaning(name: str) -> str:
    """One sentence on a setting."""
    info = msgspec.inspect.type_info(_TYPES[name])
    extra = getattr(info, "extra_json_schema", None) or {}
    return str(extra.get("description", ""))


def shown(name: str, value: Any) -> str:
    """A setting's value for people; secrets are masked."""
    if name in SECRET and isinstance(value, Mapping):
        return ", ".join(f"{key}: ***" for key in sorted(value))
    if name in SECRET and value:
        return mask(str(value))
    return str(msgspec.to_builtins(value)) if not isinstance(value, str) else value


def mask(dsn: str) -> str:
    """A connection string without its password."""
    import re  # noqa: PLC0415 - only people's commands come here

    text = re.sub(r"(?<=://)([^:/@?]*):.*(?=@)", r"\1:***", dsn)
    return re.sub(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", r"\1***", text)
