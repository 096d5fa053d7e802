"""Tables in the pages say what the code says: a setting, metric, topic or reason without its line fails here."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest
from prometheus_client.metrics import MetricWrapperBase

from pointsman.models.agent import Bands
from pointsman.models.artifact import Card
from pointsman.schemas import dead_letter, topics
from pointsman.schemas.codec import DEPTH_MAX
from pointsman.schemas.feedback import KINDS
from pointsman.streams import metrics
from pointsman.streams.cli import failure
from pointsman.streams.drifts import Drifts
from pointsman.streams.model.breaker import BreakerPolicy
from pointsman.streams.model.failure import Reason
from pointsman.streams.model.observe import ServerMetrics
from pointsman.streams.settings import NAMES, Settings, meaning
from pointsman.streams.standing import Standings
from pointsman.streams.store.queries import load
from tests.support.pages import inline, table
from tests.support.sources import ROOT, python, text

DOCS = ROOT / "docs"
OPERATIONS, MESSAGES, HOW = DOCS / "operations.md", DOCS / "messages.md", DOCS / "how-it-works.md"
GUARANTEES = DOCS / "guarantees.md"


def shown(setting: str) -> str:
    """A default as the table has it."""
    if setting == "data_dir":
        return "`~/.local/share/pointsman`"
    value = msgspec.to_builtins(getattr(Settings(), setting))
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    if isinstance(value, float):
        value = f"{value:g}"
    return f"`{value}`" if value or value == 0 else "empty"


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    assert table(OPERATIONS, "setting") == [[f"`{name}`", shown(name), meaning(name)] for name in NAMES]


def collected() -> list[tuple[str, tuple[str, ...], str]]:
    """Name as Prometheus shows it, labels, text."""
    found = []
    for holder, suffix in ((vars(metrics), ""), (vars(ServerMetrics()), " (model process)")):
        for each in holder.values():
            if isinstance(each, MetricWrapperBase):
                total = "_total" if each._type == "counter" else ""
                found.append((f"{each._name}{total}", each._labelnames, each._documentation + suffix))
    families = [*Standings().collect(), *Drifts().collect()]
    found += [(each.name, tuple(each._labelnames), each.documentation) for each in families]
    return found


def test_every_metric_is_documented_with_its_labels() -> None:
    expected = [[f"`{name}`", ", ".join(labels) or "–", what] for name, labels, what in collected()]
    assert table(OPERATIONS, "metric") == expected


def test_guarantees_name_metrics_and_log_lines_that_there_are() -> None:
    page = text(GUARANTEES)
    assert set(re.findall(r"`(pointsman_\w+)`", page)) <= {name for name, _, _ in collected()}
    lines = re.findall(r"(?:logged|the log has) \(?`([^`]+)`", page)
    assert len(lines) == 2
    code = "".join(text(path) for path in python("streams"))
    assert [line for line in lines if f'"{line}"' not in code] == []


def test_reasons_and_headers_of_dead_letters_are_documented() -> None:
    assert dict(table(MESSAGES, "reason")) == {f"`{k}`": v for k, v in dead_letter.REASONS.items()}
    assert dict(table(MESSAGES, "header")) == {
        f"`{k}`": v for k, v in (dead_letter.HEADERS | dead_letter.OPTIONAL).items()
    }


def test_limits_of_a_request_are_documented() -> None:
    assert f"{Settings().request_bytes_max:,} bytes (`request_bytes_max`), {DEPTH_MAX} levels" in text(
        MESSAGES
    )


def test_topics_are_documented_with_key_contract_and_retention() -> None:
    rows = {row[0]: row[1:] for row in table(MESSAGES, "topic")}
    assert set(rows) == {f"`{topic.name}`" for topic in topics.ALL}
    for topic in topics.ALL:
        key, carries, kept = rows[f"`{topic.name}`"]
        assert key == topic.key
        assert topic.carries in carries
        days = topic.retention_ms // topics.DAY_MS
        assert kept == ("for ever" if topic.cleanup == "compact" else f"{days} days")


def test_kinds_of_feedback_are_documented() -> None:
    assert set(KINDS) <= set(inline(MESSAGES))


def test_fallback_reasons_are_documented() -> None:
    served = set(get_args(Reason)) - {"busy"}  # a shadow question only: nobody was to be served
    assert {row[0].strip("`") for row in table(HOW, "reason")} == served


def test_questions_of_an_auditor_are_documented() -> None:
    named = [word for row in table(DOCS / "audit.md", "question") for word in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(load("auditor.sql", "pointsman.infra.sql"))


def test_exit_codes_are_documented() -> None:
    said = re.search(r"Exit codes: ([^.]*)\.", text(OPERATIONS))
    assert said is not None
    codes = {int(code) for code in re.findall(r"\b\d+\b", said[1])}
    known = {failure.OK, failure.FAILED, failure.BAD_INPUT, failure.UNREACHABLE, failure.INTERRUPTED}
    assert codes == known


def test_fields_of_the_model_card_are_documented() -> None:
    described = {
        word for row in table(DOCS / "agents.md", "field") for word in re.findall(r"`(\w+)`", row[0])
    }
    own = {"notes", "format"}
    assert described == set(Card.__struct_fields__) - own


@pytest.mark.parametrize("page", [DOCS / "agents.md", HOW], ids=lambda page: page.name)
def test_bands_and_limits_are_the_defaults(page: object) -> None:
    content = text(page)  # type: ignore[arg-type]
    assert f"{Bands().act:.2f}" in content
    assert f"{Bands().validate:.2f}" in content
    if page is HOW:
        settings = Settings()
        for value in (f"{settings.duplicate_ids_max:,}", f"up to {settings.batch_records_max} records"):
            assert value in content
        assert BreakerPolicy().failures_max == 3
        assert "other failures after three in a row" in content
