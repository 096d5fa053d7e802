"""A local snapshot gives back what was committed, up to where it is good, and nothing that cannot be trusted."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.streams.state import snapshot
from pointsman.streams.state.snapshot import TRUSTED_S, Snapshot

Block = list[tuple[bytes, bytes | None]]
BLOCKS = st.lists(
    st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=9)), max_size=4),
    min_size=1,
    max_size=6,
)


def written(folder: Path, blocks: list[Block], live: Sequence[tuple[bytes, bytes | None]] = ()) -> Snapshot:
    made = Snapshot(folder, "topic", 3)
    made.path.unlink(missing_ok=True)
    made.begin(live, 1)
    for number, records in enumerate(blocks):
        made.append([(key, value, []) for key, value in records], 10 + number)
    made.close()
    return made


def read(made: Snapshot, end: int = 1000) -> list[tuple[int, Block]]:
    return [(offset, records) for offset, records in made.blocks(end) if records or offset > 1]


@given(BLOCKS)
def test_what_was_appended_is_read_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[Block]
) -> None:
    made = written(tmp_path_factory.mktemp("s"), blocks)
    assert read(made) == [(10 + number, records) for number, records in enumerate(blocks)]


@settings(max_examples=200)
@given(BLOCKS, st.data())
def test_damage_anywhere_leaves_whole_blocks_before_it_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[Block], data: st.DataObject
) -> None:
    made = written(tmp_path_factory.mktemp("s"), blocks)
    whole = made.path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = data.draw(
        st.sampled_from(
            [whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :], whole[:at] + b"\0" * 50]
        )
    )
    made.path.write_bytes(broken)
    expected = [(10 + number, records) for number, records in enumerate(blocks)]
    found = read(made)
    assert found == expected[: len(found)]


def test_one_that_is_written_anew_in_parts_is_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_PIECE", 2)
    live: Block = [(b"%d" % n, b"v") for n in range(7)]
    made = written(tmp_path, [[(b"x", None)]], live)
    assert [record for _, records in made.blocks(1000) for record in records] == [*live, (b"x", None)]
    first = made.path.read_bytes()
    made.path.write_bytes(first[: len(first) // 2])
    assert list(made.blocks(1000)) == []


def appending(made: Snapshot, since: int) -> Snapshot:
    """Another owner's, that has read what there is."""
    other = Snapshot(made.path.parent, "topic", 3)
    read(other)
    other.begin(None, since)
    return other


def test_a_block_of_an_owner_that_was_late_is_passed_over(tmp_path: Path) -> None:
    made = written(tmp_path, [[(b"a", b"1")]])
    late, other = appending(made, 10), appending(made, 10)
    other.append([(b"a", b"2", [])], 20)
    late.append([(b"a", b"old", [])], 15)
    other.append([(b"a", b"3", [])], 30)
    assert read(made) == [(10, [(b"a", b"1")]), (20, [(b"a", b"2")]), (30, [(b"a", b"3")])]


@settings(max_examples=200)
@given(BLOCKS, st.data())
def test_a_block_that_is_missing_leaves_no_hole(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[Block], data: st.DataObject
) -> None:
    made = written(tmp_path_factory.mktemp("s"), blocks, [(b"live", b"1")])
    sizes = [0]
    for number in range(len(blocks) + 1):
        shorter = written(made.path.parent / "shorter", blocks[:number], [(b"live", b"1")])
        sizes.append(shorter.path.stat().st_size)
    place = data.draw(st.integers(0, len(blocks)))
    whole = made.path.read_bytes()
    begin = len(snapshot.MAGIC) if place == 0 else sizes[place]
    made.path.write_bytes(whole[:begin] + whole[sizes[place + 1] :])
    expected = [(1, [(b"live", b"1")])] + [(10 + n, records) for n, records in enumerate(blocks)]
    assert read(made) == expected[:place]


@settings(max_examples=100)
@given(BLOCKS, st.data())
def test_what_was_torn_is_cut_off_and_what_comes_then_is_read(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[Block], data: st.DataObject
) -> None:
    made = written(tmp_path_factory.mktemp("s"), blocks, [(b"live", b"1")])
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    before = read(made)
    if not before:
        return  # it is written anew
    made.begin(None, before[-1][0])
    made.append([(b"new", b"1", [])], 90)
    made.close()
    assert read(made) == [*before, (90, [(b"new", b"1")])]


def test_what_somebody_cuts_off_while_it_is_read_is_not_taken_for_read(tmp_path: Path) -> None:
    """An owner that was late goes on from where it had read to, while the next one reads."""
    made = written(tmp_path, [[(b"a", b"1")], [(b"a", b"2")] * 1_000, [(b"a", b"3")]], [(b"live", b"1")])
    late = Snapshot(tmp_path, "topic", 3)
    early = late.blocks(1000)
    next(early)
    early.close()
    blocks = made.blocks(1000)
    found = [next(blocks), next(blocks)]
    late.begin(None, 1)
    assert [*found, *blocks] == [(1, [(b"live", b"1")]), (10, [(b"a", b"1")])]


def test_records_whose_end_is_not_known_cost_the_file(tmp_path: Path) -> None:
    """A broker that has forgotten where it put them says -1."""
    made = written(tmp_path, [[(b"a", b"1")]])
    assert read(made)
    made.begin(None, 10)
    made.append([(b"a", b"2", [])], 0)
    made.append([(b"a", b"3", [])], 12)
    assert not made.path.exists()


def test_a_block_that_was_written_in_part_costs_the_file(tmp_path: Path) -> None:
    made = written(tmp_path, [[(b"a", b"1")]])
    assert read(made)
    made.begin(None, 10)
    short: Any = SimpleNamespace(write=lambda block: len(block) - 1, close=lambda: None)
    made._file = short
    made.append([(b"a", b"2", [])], 11)
    assert not made.path.exists()


def test_one_from_the_future_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = written(tmp_path, [[(b"a", b"1")]])
    now = snapshot.time.time()
    monkeypatch.setattr(snapshot.time, "time", lambda: now - TRUSTED_S - 1)
    assert read(made) == []


def test_what_nobody_would_trust_any_more_goes_with_time(tmp_path: Path) -> None:
    old, own = time.time() - TRUSTED_S - 60, "topic-3.state"
    half = (f"{own}.77.part", "before-3.state.78.part")
    (tmp_path / "folder-3.state").mkdir()
    os.utime(tmp_path / "folder-3.state", (old, old))
    for name in ("before-3.state", "before-13.state", "before-3.state.bak", "fresh-3.state", own, *half):
        (tmp_path / name).write_bytes(b"")
        if not name.startswith("fresh"):
            os.utime(tmp_path / name, (old, old))
    Snapshot(tmp_path, "topic", 3).begin([], 0)
    assert {each.name for each in tmp_path.iterdir()} == {
        "before-13.state",
        "before-3.state.bak",
        "folder-3.state",
        "fresh-3.state",
        own,
    }


def test_a_file_that_is_gone_meanwhile_is_not_gone_on_with(tmp_path: Path) -> None:
    made = written(tmp_path, [[(b"a", b"1")]])
    assert read(made)
    made.path.unlink()
    made.begin(None, 10)
    made.append([(b"a", b"2", [])], 11)
    assert not made.path.exists()


def test_one_of_another_log_or_too_old_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(tmp_path, [[(b"a", b"1")]])
    assert read(made, end=10)
    assert read(made, end=9) == []
    now = snapshot.time.time()
    monkeypatch.setattr(snapshot.time, "time", lambda: now + TRUSTED_S + 1)
    assert read(made) == []


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/dev/full").exists(), reason="it needs a device that is full"
)
def test_a_disk_that_takes_no_more_costs_the_file_and_nothing_else(tmp_path: Path) -> None:
    made = written(tmp_path, [[(b"a", b"1")]])
    assert read(made)
    made.begin(None, 10)
    made._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    made.append([(b"a", b"2", [])], 11)
    made.append([(b"a", b"3", [])], 12)
    assert not made.path.exists()
