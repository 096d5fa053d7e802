"""Every promise is one sentence and names tests that exist; what is not promised needs none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.sources import ROOT, functions, text, tree

PAGE = ROOT / "docs" / "guarantees.md"
WITHOUT_TESTS = {"What is not promised"}
SECTIONS = (
    "Delivery", "Retries and redrive", "Routing", "Keyed state", "Fallback and deadlines", "Bad input", "Sink and aggregates", "Flags",
    "Restarts and rebalances", "Other versions", "Topics that change", "Memory", "What is not promised",
)  # fmt: skip
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
BULLET = re.compile(r"^- (.*(?:\n  .*)*)", re.MULTILINE)
TEST = re.compile(r"\[(test_\w+)\]\(([^)]+)\)")
SECOND_SENTENCE = re.compile(r"[.!?] +[A-Z]")


class Promise(NamedTuple):
    """A sentence and its tests, as name and path from the page."""

    sentence: str
    tests: list[tuple[str, str]]


def promises(page: str) -> list[Promise]:
    """Every bullet of the sections that promise something."""
    _, *parts = HEADING.split(page)
    found = []
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        if heading in WITHOUT_TESTS:
            continue
        for bullet in BULLET.findall(body):
            sentence = " ".join(bullet.partition("[test_")[0].split())
            found.append(Promise(sentence, TEST.findall(bullet)))
    return found


def faults(promise: Promise, folder: Path) -> list[str]:
    """What is wrong with a promise."""
    wrong = []
    if not promise.sentence.endswith(".") or SECOND_SENTENCE.search(promise.sentence):
        wrong.append("is not one sentence")
    if not promise.tests:
        wrong.append("names no test")
    for name, target in promise.tests:
        file = (folder / target).resolve()
        if not file.is_file() or name not in {each.name for each in functions(tree(file))}:
            wrong.append(f"names {target}::{name}, which is not there")
    return wrong


PROMISES = promises(text(PAGE))


def test_the_page_has_its_sections_and_promises_something_in_each() -> None:
    assert tuple(HEADING.findall(text(PAGE))) == SECTIONS
    _, *parts = HEADING.split(text(PAGE))
    assert all(BULLET.search(body) for body in parts[1::2])
    assert len(PROMISES) > 50


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.sentence[:60])
def test_a_promise_is_one_sentence_with_tests_that_exist(promise: Promise) -> None:
    assert faults(promise, PAGE.parent) == []


def test_no_sentence_stands_twice() -> None:
    sentences = [promise.sentence for promise in PROMISES]
    assert sorted(set(sentences)) == sorted(sentences)


HERE = "[test_no_sentence_stands_twice](../tests/docs/test_guarantees.py)"


@pytest.mark.parametrize(
    ("bullet", "wrong"),
    [
        (f"- All is well.\n  {HERE}", []),
        ("- All is well.", ["names no test"]),
        (f"- All is well. Nothing is lost.\n  {HERE}", ["is not one sentence"]),
        (f"- All is well\n  {HERE}", ["is not one sentence"]),
        ("- All is well.\n  [test_x](../tests/docs/test_guarantees.py)", ["names ../tests/docs/test_guarantees.py::test_x, which is not there"]),
        ("- All is well.\n  [test_x](../tests/none.py)", ["names ../tests/none.py::test_x, which is not there"]),
    ],
)  # fmt: skip
def test_the_checker_sees_a_promise_without_a_test(bullet: str, wrong: list[str]) -> None:
    (promise,) = promises(f"# Page\n\n## Delivery\n\n{bullet}\n\n## What is not promised\n\n- Much.\n")
    assert faults(promise, PAGE.parent) == wrong
