"""The long run finds a fault that is there, makes it small, and keeps it."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.__main__ import find, main
from tests.fuzz.check import Target
from tests.fuzz.corpus import keep


def _stumbles(value: bytes) -> int:
    if b'"f' in value:
        raise KeyError(value)
    return len(value)


def test_a_planted_fault_is_found_and_made_small() -> None:
    # It takes the kept inputs of the decoder whose name it has.
    found = find(Target("feedback", _stumbles), seed=5)
    assert found is not None
    value, error = found
    assert isinstance(error, KeyError)
    assert b'"f' in value


def test_a_sound_decoder_has_no_finds() -> None:
    assert find(Target("feedback", len), seed=5, examples=50) is None


def test_a_find_is_kept_under_the_name_of_its_content(tmp_path: Path) -> None:
    path = keep("feedback", b"x", tmp_path)
    assert path.read_bytes() == b"x"
    assert path == keep("feedback", b"x", tmp_path)
    assert path.parent == tmp_path / "feedback"


def test_the_command_runs_and_says_its_seed(capsys) -> None:
    assert main(["--minutes", "0.001", "--only", "model-url", "--seed", "7"]) == 0
    assert "seed 7" in capsys.readouterr().out
