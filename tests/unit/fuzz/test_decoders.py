"""Whatever bytes come in: a value or the documented refusal, the same each time, and what was accepted survives."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.check import Target, check
from tests.fuzz.corpus import CORPUS, kept
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import MESSAGES, TARGETS

KEPT = [(name, each) for name in TARGETS for each in kept(name)]


@pytest.mark.parametrize(("name", "each"), KEPT, ids=lambda value: value)
def test_a_kept_input_is_decided_as_documented(name: str, each: str) -> None:
    check(TARGETS[name], kept(name)[each])


@pytest.mark.parametrize("name", TARGETS)
def test_an_ordinary_input_is_accepted_and_some_are_refused(name: str) -> None:
    """Else the corpus would be one-sided, and the fuzzer would never come past the door."""
    decided = {check(TARGETS[name], value) for value in kept(name).values()}
    silent = {
        "offset-metadata",
        "trace-headers",
        "remembered",
        "running",
    }  # they read what is not theirs as nothing
    assert decided == ({True} if name in silent else {True, False})


def test_every_message_is_written_and_read_again() -> None:
    """But for two that are only looked into: outcomes for their ids, and senders' headers."""
    assert {each.name for each in MESSAGES if each.encode is None} == {"remembered", "trace-headers"}


def test_every_folder_of_the_corpus_belongs_to_a_decoder() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == {*TARGETS, "agent"}


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_changed_inputs_are_decided_as_documented(name: str, data: st.DataObject) -> None:
    check(TARGETS[name], data.draw(inputs(list(kept(name).values()))))


# -- the checker sees what it is for ---------------------------------------------------------------


def _faulty(value: bytes) -> object:
    if value == b"foreign":
        raise KeyError("foreign")
    if value == b"moody":
        return object()
    if value == b"silent":
        raise ValueError
    return len(value)


FAULTY = Target("faulty", _faulty, (ValueError,), encode=lambda found: b"x" * (int(str(found)) + 1))


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        (b"foreign", KeyError, "foreign"),
        (b"moody", AssertionError, "then"),
        (b"silent", AssertionError, "without a word"),
        (b"abc", AssertionError, "it is another"),
    ],
    ids=str,
)
def test_the_checker_finds_a_foreign_error_a_mood_a_silent_refusal_and_a_value_that_changes(
    value: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        check(FAULTY, value)
