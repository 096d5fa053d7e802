"""Decompression is bounded for every codec, agrees with the codecs' own decoders, and names what it refuses."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.streams import bounded
from pointsman.streams.bounded import Decoders, Refused, Run, current
from tests.support.batches import compress

MIB = 1024 * 1024
CODECS = ("gzip", "snappy", "xerial", "lz4", "zstd")


def decoder(codec: str, bytes_max: int = MIB) -> Callable[[Any], bytes]:
    found: Callable[[Any], bytes] = getattr(Decoders(bytes_max), "snappy" if codec == "xerial" else codec)
    return found


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(min_size=1, max_size=3_000), times=st.integers(1, 100))
def test_what_was_compressed_comes_back(codec: str, data: bytes, times: int) -> None:
    packed = compress(codec, data * times)
    assert decoder(codec)(packed) == data * times
    assert decoder(codec)(memoryview(packed)) == data * times


@pytest.mark.parametrize("codec", CODECS)
def test_the_bound_is_exact(codec: str) -> None:
    packed = compress(codec, bytes(MIB))
    assert len(decoder(codec, MIB)(packed)) == MIB
    with pytest.raises(Refused) as refused:
        decoder(codec, MIB - 1)(packed)
    assert refused.value.invalid.reason == "too_large_batch"
    assert refused.value.sha256 == sha256(packed).hexdigest()
    assert refused.value.size == len(packed)
    assert str(MIB - 1) in refused.value.invalid.expected


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_refused_is_never_held(codec: str) -> None:
    packed = compress(codec, bytes(64 * MIB))
    reason, peak = inflated_alone(codec, MIB, packed)
    assert reason == "too_large_batch"
    assert peak < 8 * MIB
    reason, peak = inflated_alone(codec, 64 * MIB, packed)
    assert reason == ""
    assert peak >= 64 * MIB, "the measuring stick measures"


INFLATE = """
import json, sys
from pathlib import Path
from pointsman.streams.bounded import Decoders, Refused

def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

codec, bytes_max = sys.argv[1], int(sys.argv[2])
packed = sys.stdin.buffer.read()
inflate = getattr(Decoders(bytes_max), codec)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before, reason = peak(), ""
try:
    inflate(packed)
except Refused as refused:
    reason = refused.invalid.reason
print(json.dumps([reason, peak() - before]))
"""


def inflated_alone(codec: str, bytes_max: int, packed: bytes) -> tuple[str, int]:
    """In a process of its own: why it was refused, and the bytes that it took at most.

    Python does not see a decompressor's own memory.
    """
    command = [sys.executable, "-c", INFLATE, codec.replace("xerial", "snappy"), str(bytes_max)]
    done = subprocess.run(command, input=packed, capture_output=True, check=True)
    reason, peak = json.loads(done.stdout)
    return reason, peak


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("harm", [lambda x: x[:-3], lambda x: b"\x99" * len(x), lambda x: x + b"\xfe" * 30])
def test_what_makes_no_sense_is_corrupt(codec: str, harm: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Refused) as refused:
        decoder(codec)(harm(compress(codec, bytes(range(256)) * 100)))
    assert refused.value.invalid.reason == "corrupt_batch"


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.binary(max_size=400))
def test_no_bytes_do_worse_than_to_be_refused(codec: str, data: bytes) -> None:
    for prefix in (b"", compress(codec, b"x" * 50)[:16]):
        with contextlib.suppress(Refused):
            assert len(decoder(codec)(prefix + data)) <= MIB


def test_a_size_that_the_data_claims_allows_nothing() -> None:
    claimed = b"\xff\xff\xff\xff\x0f" + b"\x00abc"  # snappy: four gigabytes, it says
    with pytest.raises(Refused, match="too_large_batch"):
        decoder("snappy")(claimed)
    blocks = bounded.XERIAL + struct.pack(">ii", 1, 1)
    one = cramjam.snappy.compress_raw(bytes(MIB // 2))
    for _ in range(3):  # each below the bound, together above
        blocks += struct.pack(">i", len(one)) + bytes(one)
    with pytest.raises(Refused, match="too_large_batch"):
        decoder("xerial")(blocks)


def test_members_of_gzip_count_together_and_are_few() -> None:
    half = gzip.compress(bytes(MIB // 2))
    assert decoder("gzip")(half + half) == bytes(MIB)
    assert decoder("gzip")(half + b"\0\0\0") == bytes(MIB // 2)  # as gzip itself allows
    with pytest.raises(Refused, match="too_large_batch"):
        decoder("gzip")(half * 3)
    with pytest.raises(Refused, match=r"corrupt_batch.*members"):
        decoder("gzip")(gzip.compress(b"") * (bounded.MEMBERS_MAX + 1))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_ratio_that_changes_costs_a_second_try_and_nothing_else(codec: str) -> None:
    decoders = Decoders(8 * MIB)
    for data in (bytes(range(256)), bytes(8 * MIB), bytes(range(256)), bytes(4 * MIB)):
        assert getattr(decoders, codec)(compress(codec, data)) == data


def test_what_is_inflated_counts_for_the_run_of_its_thread() -> None:
    mine = current.run = Run(1000)
    threading.Thread(target=lambda: decoder("zstd")(compress("zstd", bytes(500)))).start()
    assert mine.left == 1000
    decoder("gzip")(compress("gzip", bytes(300)))
    assert mine.left == 700
    with pytest.raises(Refused):
        decoder("zstd", 100)(compress("zstd", bytes(500)))
    assert mine.left == 600
    current.run = None
