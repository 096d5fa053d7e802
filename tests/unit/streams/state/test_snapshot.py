"""A local snapshot gives back what was committed, up to where it is good, and nothing that cannot be trusted."""

from __future__ import annotations

import os
from pathlib import Path

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


def written(folder: Path, blocks: list[Block], live: Block | None = None) -> Snapshot:
    made = Snapshot(folder, "topic", 3)
    made.path.unlink(missing_ok=True)
    made.begin(live, 1)
    for number, records in enumerate(blocks):
        made.append([(key, value, []) for key, value in records], 10 + number)
    made.close()
    return made


def read(made: Snapshot, end: int = 1000) -> list[tuple[int, Block]]:
    return [(offset, records) for offset, records in made.blocks(end) if offset >= 0]


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


def test_a_block_of_an_owner_that_was_late_is_passed_over(tmp_path: Path) -> None:
    made = written(tmp_path, [[(b"a", b"1")], [(b"a", b"2")]])
    made.begin(None, 0)
    made.append([(b"a", b"old", [])], 10)
    made.append([(b"a", b"3", [])], 12)
    made.close()
    assert read(made) == [(10, [(b"a", b"1")]), (11, [(b"a", b"2")]), (12, [(b"a", b"3")])]


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
    made.path.unlink()
    made.path.symlink_to("/dev/full")
    made.begin(None, 0)
    made.append([(b"a", b"2", [])], 11)
    made.append([(b"a", b"3", [])], 12)
    assert not made.path.exists()
