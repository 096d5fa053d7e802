"""Kafka Streams decides the same: its Java outcomes are the Python rules', field by field."""

from __future__ import annotations

import ast
import inspect
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from benchmarks.contenders.decision import Arrived, Decide
from benchmarks.data import requests
from benchmarks.kafka_streams import build
from pointsman.infra.dev.real_parts import MissingPartError
from pointsman.models.agents.documentation_keeper import AGENT, memory, paths, subject
from tests.conftest import lack

REAL = 300
MADE = 3_000
"""Enough that every word of the tables stands in some path or subject."""
LITERALS = sorted(
    {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(paths)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 20
    }
    - {"", "/"}
)
"""Beginnings, endings and names that stand in the code of the Python module."""
VARIES = ("decided_at", "timings")


def made(number: int, drawn: random.Random) -> dict[str, Any]:
    """A change out of the words that the rules know, with some that they do not."""
    words = [word.decode() for word in subject._BITS]
    folders = sorted(set().union(*(v for k, v in vars(paths).items() if k.endswith("_FOLDERS"))))
    stems = [
        "Thing",
        "_x",
        "__x",
        *sorted(set().union(*(v for k, v in vars(paths).items() if k.endswith("_STEMS")))),
    ]
    names = sorted(set().union(*(v for k, v in vars(paths).items() if k.endswith("_NAMES"))))
    suffixes = sorted(set().union(*(v for k, v in vars(paths).items() if k.endswith("_SUFFIXES"))))

    def path() -> str:
        parts = drawn.choices([*folders, "src", "_own", "Core", "requirements"], k=drawn.randrange(5))
        name = drawn.choice(names) if drawn.random() < 0.3 else ""
        name = name or f"{drawn.choice(stems)}.{drawn.choice(suffixes)}"
        if drawn.random() < 0.3:
            name = drawn.choice(("{}", "{}.{}", "x{}.{}", "{}x.{}")).format(
                drawn.choice(LITERALS), drawn.choice(suffixes)
            )
        return "/".join([*parts, name])

    def file() -> dict[str, Any]:
        status = drawn.choice("AMDRCT")
        old = {"previous": path()} if status == "R" else {}
        return {
            "path": path(),
            "added": drawn.randrange(90),
            "removed": drawn.randrange(30),
            "status": status,
        } | old

    said = drawn.choices([*words, "Zürich", "don't", "v2.0", "x", "FIX:"], k=drawn.randrange(9))
    return {
        "repository": "made/up",
        "subject": drawn.choice([" ", "/", ", "]).join(said),
        "files": [file() for _ in range(drawn.randrange(6))],
        "body_lines": number % 50,
    }


def wrapped(inputs: Iterator[dict[str, Any]]) -> list[bytes]:
    return [
        b'{"id":"made-%d","agent":"documentation-keeper","unit":"u\\"%d","input":%s}'
        % (i, i, msgspec.json.encode(each))
        for i, each in enumerate(inputs)
    ]


@pytest.fixture(scope="module")
def values() -> list[bytes]:
    drawn = random.Random(4)
    real = [value for _, value in requests(REAL, None)]
    return [*real, *wrapped(iter(AGENT.examples)), *wrapped(made(i, drawn) for i in range(MADE))]


@pytest.fixture(scope="module")
def java(values: list[bytes]) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in build.answers(values)]
    except MissingPartError as reason:
        lack(str(reason))


@pytest.fixture(scope="module")
def python(values: list[bytes]) -> list[dict[str, Any]]:
    decide = Decide(0.0, 0.0)
    out = decide([Arrived(value, "decision-requests", 3, i, 0) for i, value in enumerate(values)])
    return [json.loads(value) for _, value in out]


def test_outcomes_are_the_same_field_by_field(
    java: list[dict[str, Any]], python: list[dict[str, Any]]
) -> None:
    assert len(java) == len(python)
    for theirs, ours in zip(java, python, strict=True):
        assert theirs["features"] == pytest.approx(ours["features"], rel=1e-12)
        assert {k: v for k, v in theirs.items() if k not in (*VARIES, "features")} == {
            k: v for k, v in ours.items() if k not in (*VARIES, "features")
        }


def test_what_varies_has_the_same_form(java: list[dict[str, Any]], python: list[dict[str, Any]]) -> None:
    assert java[0]["timings"].keys() == python[0]["timings"].keys()
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
    assert moment.fullmatch(java[0]["decided_at"])
    assert moment.fullmatch(python[0]["decided_at"])


def test_the_requests_reach_every_class_of_path_and_both_answers(python: list[dict[str, Any]]) -> None:
    """Else equal answers would say little."""
    said = {(each["prediction"], each["action"]) for each in python}
    assert {prediction for prediction, _ in said} == set(AGENT.predictions)
    assert {action for _, action in said} == {"act", "validate", "escalate"}
    assert all(
        any(each["features"][name] for each in python)
        for name in AGENT.feature_names
        if name not in memory.NAMES
    )


@pytest.mark.parametrize(
    "wrong",
    [
        b'{"agent":"documentation-keeper","input":{"repository":"r","subject":"s","files":[]}}',
        b'{"id":"a","agent":"documentation-keeper","input":{"repository":"r","files":[]}}',
        b'{"id":"a","agent":"documentation-keeper","input":{"repository":"r","subject":"s","files":[{"path":7}]}}',
        b'{"id":"a"',
    ],
    ids=["no id", "no subject", "a path that is a number", "half a message"],
)
def test_a_request_that_breaks_its_contract_is_refused(wrong: bytes) -> None:
    try:
        with pytest.raises(RuntimeError):
            build.answers([wrong])
    except MissingPartError as reason:
        lack(str(reason))
