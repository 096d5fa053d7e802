"""What stands in code blocks works: Python runs, messages keep their contracts, commands exist and take their options."""

from __future__ import annotations

import json
import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from confluent_kafka import Consumer, TopicPartition
from jsonschema import Draft202012Validator, FormatChecker
from typer.testing import CliRunner

from pointsman.models.registry import load_agents
from pointsman.schemas.codec import Decoder
from pointsman.schemas.feedback import Feedback
from pointsman.schemas.outcome import Outcome
from pointsman.schemas.request import DecisionRequest
from pointsman.streams.cli.app import app
from pointsman.streams.cli.offline import answer
from pointsman.streams.embedded import EmbeddedKafka
from pointsman.streams.settings import Settings, load
from tests.support.pages import Block, blocks, inline, pages
from tests.support.sources import ROOT, name, text

CONTRACTS = ROOT / "docs" / "contracts"
COMMAND = typer.main.get_command(app)
PLACEHOLDERS = {"ID": "demo1a2b-0123456789", "FILE": "request.json"}
RUN_FOR_REAL = ("decide --example", "decide --agent", "agents ", "doctor --settings", "version")
"""Commands that need no server and take no time."""


def marked(word: str) -> Block:
    (found,) = [block for block in blocks("python", "json") if word in block.words]
    return found


# -- Python ------------------------------------------------------------------------------------------------


def test_the_agent_in_the_page_is_the_example() -> None:
    assert marked("agent").content == text(ROOT / "examples" / "agents" / "ticket-urgency" / "agent.py")


def plain_python() -> list[Block]:
    return [
        block
        for block in blocks("python")
        if len(block.words) == 1 and "confluent_kafka" not in block.content
    ]


@pytest.mark.parametrize("block", plain_python(), ids=str)
def test_python_blocks_run(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(block.content, str(block), "exec"), {"__name__": "block"})


async def test_the_producer_in_the_page_sends_a_request_that_is_valid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = [block for block in blocks("python") if "confluent_kafka" in block.content]
    async with EmbeddedKafka(topics={"decision-requests": 1}) as kafka:
        monkeypatch.setenv("POINTSMAN_KAFKA", kafka.bootstrap)
        exec(compile(block.content, str(block), "exec"), {"__name__": "block"})
        consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "docs"})
        consumer.assign([TopicPartition("decision-requests", 0, 0)])
        record = consumer.poll(20)
        consumer.close()
    assert record is not None
    assert record.error() is None
    request = Decoder(DecisionRequest).decode(record.value())
    assert record.key() == (request.unit or request.id).encode()
    Decoder(load_agents()[request.agent].input_type, "input").decode(request.input)


# -- messages ----------------------------------------------------------------------------------------------


def validated(word: str, contract: str) -> dict[str, Any]:
    plain = json.loads(marked(word).content)
    schema = json.loads((CONTRACTS / contract).read_text(encoding="utf-8"))
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(plain)
    return dict(plain)


def test_the_request_in_the_page_keeps_its_contract() -> None:
    plain = validated("request", "DecisionRequest.json")
    agent = load_agents()[plain["agent"]]
    Decoder(DecisionRequest).decode(json.dumps(plain).encode())
    Decoder(agent.input_type, "input").decode(json.dumps(plain["input"]).encode())
    assert set(plain) <= set(DecisionRequest.__struct_fields__)


def test_the_outcome_in_the_page_is_what_comes_of_the_request() -> None:
    plain = validated("outcome", "Outcome.json")
    request = json.loads(marked("request").content)
    outcome = Decoder(Outcome).decode(json.dumps(plain).encode())
    assert set(plain) == set(Outcome.__struct_fields__) - {"history", "state"}
    assert (plain["decision_id"], plain["input"]) == (request["id"], request["input"])
    found = answer(Settings(), load_agents()[outcome.agent], json.dumps(request["input"]).encode())
    said = msgspec.to_builtins(outcome.answers)
    for arm, key in (("rules", "rules"), ("ml", "model")):
        assert said[arm] == {field: found[key][field] for field in said[arm]}, (
            "write it again: the answers changed"
        )
    assert plain["prediction"] == said["ml"]["prediction"]
    assert plain["confidence"] == said["ml"]["confidence"]
    assert plain["action"] == found["model"]["action"]
    for feature, value in plain["features"].items():
        assert found["features"][feature] == pytest.approx(value, abs=1e-6)


def test_the_feedback_in_the_page_keeps_its_contract() -> None:
    plain = validated("feedback", "Feedback.json")
    event = Decoder(Feedback).decode(json.dumps(plain).encode())
    assert set(plain) <= set(Feedback.__struct_fields__)
    assert event.unit == json.loads(marked("request").content)["unit"]


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_in_the_pages_can_be_loaded(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "pointsman.toml"
    file.write_text(block.content, encoding="utf-8")
    assert "file" in load({}, {}, config=str(file)).origins.values()


# -- commands ----------------------------------------------------------------------------------------------


def commands(block: Block) -> list[list[str]]:
    """Its lines as words, without comments; lines that go on are joined."""
    return [
        words
        for line in block.content.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    ]


def check_pointsman(words: list[str], *, complete: bool) -> None:
    """Parse without running. An inline mention may leave arguments out."""
    arguments = [PLACEHOLDERS.get(word, word) for word in words]
    command: Any = COMMAND
    path = "pointsman"
    while (known := getattr(command, "commands", None)) and arguments and not arguments[0].startswith("-"):
        path += f" {arguments[0]}"
        assert arguments[0] in known, f"no command {path}"
        command = known[arguments.pop(0)]
    try:
        command.make_context(path, arguments, resilient_parsing=not complete)
    except Exception as error:  # typer brings click's errors under names of its own
        if type(error).__name__ != "Exit":  # --help
            pytest.fail(f"{path} {shlex.join(arguments)}: {error}")


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets, f"make {' '.join(words)}"


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        assert find_spec(words[1]) is not None, f"no module {words[1]}"
    elif words[0].endswith(".py"):
        assert (ROOT / words[0]).is_file(), f"no file {words[0]}"


def check(words: list[str], *, complete: bool) -> bool:
    """Whether the command is one that is known here; it fails where it is, and wrong."""
    if words[0] == "pointsman":
        check_pointsman(words[1:], complete=complete)
    elif words[0] == "make":
        check_make(words[1:])
    elif words[0] == "python":
        check_python(words[1:])
    else:
        return words[0] in ("export", "kafka-console-consumer.sh", "git")
    return True


@pytest.mark.parametrize("block", blocks("sh", "console", "bash"), ids=str)
def test_commands_in_blocks_exist_and_take_their_options(block: Block) -> None:
    found = commands(block)
    assert found
    for words in found:
        assert check(words, complete=True), f"nobody knows {words[0]}"


def test_commands_in_the_text_exist() -> None:
    seen = 0
    for page in pages():
        for code in inline(page):
            if code.split()[0] not in ("pointsman", "make", "python") or any(sign in code for sign in "|…()"):
                continue
            if name(page).startswith("docs/decisions/"):
                continue  # records say what was, not what is
            seen += check(shlex.split(code), complete=False)
    assert seen > 40


def test_a_wrong_command_would_be_seen() -> None:
    for wrong in (["flags", "move"], ["worker", "--speed", "9"], ["train", "documentation-keeper"]):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_pointsman(wrong, complete=True)
    with pytest.raises(AssertionError):
        check_make(["coffee"])


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_cheap_commands_run(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in commands(block):
        if words[0] == "export":
            key, _, value = words[1].partition("=")
            if key == "POINTSMAN_AGENTS":
                monkeypatch.setitem(os.environ, key, value)
        elif words[0] == "pointsman" and shlex.join(words[1:]).startswith(RUN_FOR_REAL):
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"
