"""The committed contract documents are what the classes generate, and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pointsman.models.registry import load_agents
from pointsman.schemas import dead_letter, export, topics
from pointsman.streams import contracts

FOLDER = Path(__file__).parents[2] / "docs" / "contracts"
ALL = {
    **export.documents(),
    **{f"{contracts.INPUTS}/{k}": v for k, v in contracts.inputs(load_agents()).items()},
}


@pytest.mark.parametrize("name", ALL)
def test_a_committed_document_is_the_generated_one(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == export.text(ALL[name]), (
        "write them again: python -m pointsman.streams.contracts docs/contracts"
    )


def test_no_document_is_left_over() -> None:
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.json")} == set(ALL)


@pytest.mark.parametrize("name", [name for name in ALL if name != export.ASYNCAPI])
def test_every_schema_is_a_valid_schema(name: str) -> None:
    Draft202012Validator.check_schema(ALL[name])


def pointers(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from pointers(each)
    elif isinstance(value, list):
        for each in value:
            yield from pointers(each)


@pytest.mark.parametrize("name", ALL)
def test_every_reference_leads_somewhere(name: str) -> None:
    for pointer in pointers(ALL[name]):
        target: Any = ALL[name]
        for part in pointer.removeprefix("#/").split("/"):
            target = target[part]


def test_asyncapi_names_every_topic_with_its_key_contract_and_headers() -> None:
    document = export.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert set(document["channels"]) == {topic.name for topic in topics.ALL}
    contracts_ = {type_.__name__ for type_ in export.CONTRACTS}
    for topic in topics.ALL:
        ((name, _),) = document["channels"][topic.name]["messages"].items()
        message = document["components"]["messages"][name]
        assert message["bindings"]["kafka"]["key"]["description"] == topic.key
        if topic is topics.DEAD_LETTERS:
            assert message["headers"]["$ref"].endswith("DeadLetterHeaders")
        else:
            waits = topic.name.startswith("decision-retries-")
            assert name == (export.WAITING if waits else topic.carries)
            assert topic.carries in contracts_
            assert message["payload"]["$ref"].endswith(f"/{topic.carries}")
            assert not waits or message["headers"]["$ref"].endswith("WaitingHeaders")
    actions = {
        operation["channel"]["$ref"]: operation["action"] for operation in document["operations"].values()
    }
    assert actions["#/channels/decision-requests"] == "receive"
    assert actions["#/channels/decision-outcomes"] == "send"


def test_fields_carry_the_texts_that_stand_below_them_in_the_classes() -> None:
    outcome = export.json_schema(export.Outcome)["$defs"]["Outcome"]["properties"]
    assert outcome["decision_id"]["description"] == "The request's id."
    assert outcome["features"]["type"] == outcome["input"]["type"] == "object"


def test_the_reasons_of_dead_letters_are_listed_with_their_meaning() -> None:
    reason = export.dead_letter_headers()["properties"]["reason"]
    assert {each["const"]: each["description"] for each in reason["oneOf"]} == dead_letter.REASONS


@pytest.mark.parametrize("main", [export.main, contracts.main])
def test_the_command_writes_its_files_and_asks_for_a_folder(
    main: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "new")]) == 0
    written = capsys.readouterr().out.split()
    assert written
    for path in written:
        assert json.loads(Path(path).read_text(encoding="utf-8"))
