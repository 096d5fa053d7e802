"""Fetched batches: bounded in every consumer, unreadable ones stand as one record, what is around them stays."""

from __future__ import annotations

import importlib
import struct
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record import default_records
from aiokafka.structs import ConsumerRecord

from pointsman.schemas import dead_letter
from pointsman.schemas.errors import InvalidMessage
from pointsman.streams import metrics, reading
from pointsman.streams.decisions.validate import Rejected, letter
from pointsman.streams.unreadable import Unreadable, error_of
from tests.builders import record
from tests.support import batches
from tests.support.batches import made, pack

TP = TopicPartition("t", 3)
MIB = 1024 * 1024
CODECS = ("none", "gzip", "snappy", "xerial", "lz4", "zstd")
SMALL = [(b"a", b"1"), (None, b"2"), (b"c", None)]


@pytest.fixture(autouse=True)
def limited() -> Any:
    reading.install(MIB)
    yield
    reading.install(reading.BATCH_INFLATED_BYTES_MAX)


def fetched(raw: bytes, *, at: int = 0, aborted: Any = ()) -> Any:
    """As aiokafka's fetcher makes it."""
    return fetcher.PartitionRecords(TP, fetcher.MemoryRecords(raw), list(aborted), at, None, None, True, 1)


def bomb(codec: str, *, base: int = 0, count: int = 3) -> bytes:
    name = "snappy" if codec == "xerial" else codec
    return pack(name, batches.compress(codec, bytes(MIB + 1)), count, base=base)


def pairs(found: list[Any]) -> list[Any]:
    return [(each.offset, each.key, each.value) for each in found]


def test_the_batches_made_by_hand_are_kafkas() -> None:
    assert made("none", SMALL)[8:] == batches.ours(SMALL)[8:]


@pytest.mark.parametrize("codec", CODECS)
def test_good_batches_pass_as_they_are(codec: str) -> None:
    records = fetched(made(codec, SMALL) + made(codec, SMALL, base=3))
    assert pairs(list(records)) == [(at, *SMALL[at % 3]) for at in range(6)]
    assert records.next_fetch_offset == 6


@pytest.mark.parametrize("codec", CODECS[1:])
def test_one_record_stands_for_a_batch_beyond_the_bound(codec: str) -> None:
    counter = metrics.UNREADABLE.labels("t", "too_large_batch")
    before = counter._value.get()
    records = fetched(
        made("none", SMALL, base=10) + bomb(codec, base=13) + made(codec, SMALL, base=16), at=10
    )
    found = list(records)
    if len(found) == 4:  # enough was inflated: the rest is fetched anew
        assert records.next_fetch_offset == 16
        found += list(fetched(made(codec, SMALL, base=16), at=16))
    assert [each.offset for each in found] == [10, 11, 12, 15, 16, 17, 18]
    stand_in = found[3]
    assert isinstance(stand_in, Unreadable)
    assert (stand_in.key, stand_in.value, stand_in.headers) == (None, None, ())
    assert error_of(stand_in, InvalidMessage("empty_value", "", "")).reason == "too_large_batch"
    assert counter._value.get() == before + 1
    payload = bomb(codec)[batches.HEADER.size :]
    told = msgspec.json.decode(stand_in.description())
    assert told["bytes"] == len(payload)
    assert (told["offset"], told["last_offset"], told["records"]) == (13, 15, 3)


def test_its_letter_says_where_and_what() -> None:
    records = fetched(bomb("zstd", base=7), at=7)
    (stand_in,) = records
    assert records.next_fetch_offset == 10, "or it would be fetched for ever"
    key, value, headers = letter(Rejected(stand_in, stand_in.error), 1024)
    said = dict(headers)
    assert said[dead_letter.HEADER_REASON] == b"too_large_batch"
    assert said[dead_letter.HEADER_OFFSET] == b"7"
    assert said[dead_letter.HEADER_PARTITION] == b"3"
    assert key is None
    assert msgspec.json.decode(value or b"")["last_offset"] == 9
    assert {"too_large_batch", "corrupt_batch"} <= dead_letter.REASONS.keys()


def test_the_first_offset_is_where_reading_began() -> None:
    """A position in the middle of a batch: what lies before was dealt with already."""
    (stand_in,) = fetched(bomb("zstd", base=7), at=8)
    assert stand_in.first_offset == 8


@pytest.mark.parametrize(
    ("payload", "count", "readable"),
    [
        (batches.records(SMALL) + b"\x7f\x00", 5, 3),  # a fourth record that is cut off
        (b"\xff" * 40, 2, 0),
        (b"", 2, 0),
        (batches.records([(b"a", b"1")])[:-1] + b"\x02\x02\xff\x00", 1, 0),  # a header's name is no text
    ],
)
@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_what_is_readable_before_nonsense_is_kept(
    codec: str, payload: bytes, count: int, readable: int
) -> None:
    raw = pack(codec, batches.compress(codec, payload), count) + made("none", SMALL, base=count)
    records = fetched(raw)
    found = list(records)
    assert pairs(found[:readable]) == [(at, *SMALL[at]) for at in range(readable)]
    stand_in = found[readable]
    assert (stand_in.first_offset, stand_in.offset) == (readable, count - 1)
    assert stand_in.error.reason == "corrupt_batch"
    assert pairs(found[readable + 1 :]) == [(at + count, *SMALL[at]) for at in range(3)]
    assert records.next_fetch_offset == count + 3


def test_a_remainder_behind_the_last_record_costs_no_record() -> None:
    records = fetched(pack("none", batches.records(SMALL) + b"rest", 3))
    assert [each.offset for each in records] == [0, 1, 2]
    assert records.next_fetch_offset == 3


def test_a_wrong_checksum_is_fetched_again_after_what_lies_before_it() -> None:
    """And what lies behind it is left where it is: whoever read on would have passed the batch over."""
    intact, behind = made("gzip", SMALL, base=3), made("none", SMALL, base=6)
    spoiled = bytearray(intact)
    spoiled[-1] ^= 1
    records = fetched(made("none", SMALL) + bytes(spoiled) + behind)
    assert [each.offset for each in records] == [0, 1, 2]
    assert records.next_fetch_offset == 3
    for _ in range(2):
        again = fetched(bytes(spoiled) + behind, at=3)
        with pytest.raises(CorruptRecordException, match=r"t\[3\].*checksum"):
            list(again)
        assert again.next_fetch_offset == 3
    assert pairs(list(fetched(intact + behind, at=3))) == [(at, *SMALL[at % 3]) for at in range(3, 9)]


def test_a_codec_of_tomorrow_is_no_dead_letter() -> None:
    with pytest.raises(UnsupportedCodecError):
        list(fetched(_with_codec(5)))


def _with_codec(number: int) -> bytes:
    batches.CODECS["tomorrow"] = number
    try:
        return pack("tomorrow", b"abc", 1)
    finally:
        del batches.CODECS["tomorrow"]


def test_an_aborted_batch_is_never_inflated() -> None:
    """Nobody would have read it: it becomes no dead letter."""
    raw = bytearray(bomb("zstd"))
    raw[43:51] = (77).to_bytes(8, "big")  # producer id
    raw[22] |= 0x10  # transactional
    raw[17:21] = batches.calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    records = fetched(bytes(raw), aborted=[(77, 0)])
    assert list(records) == []
    assert records.next_fetch_offset == 3


def test_many_batches_below_the_bound_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RUN_BYTES", 2 * MIB)
    large = [(b"k", bytes(MIB - 100))]
    raw = b"".join(made("zstd", large, base=at) for at in range(20))
    seen, at = [], 0
    while at < 20:
        records = fetched(raw[len(made("zstd", large)) * at :], at=at)
        found = [each.offset for each in records]
        assert 0 < len(found) <= 3
        seen += found
        at = records.next_fetch_offset
    assert seen == list(range(20))


def test_a_pause_in_the_middle_goes_on_there() -> None:
    records = fetched(made("zstd", SMALL) + made("zstd", SMALL, base=3))
    first = []
    for each in records:
        first.append(each.offset)
        if len(first) == 2:
            break
    assert records.next_fetch_offset == 2
    assert [each.offset for each in records] == [2, 3, 4, 5]
    assert next(records, None) is None


def test_the_places_in_aiokafka_are_there() -> None:
    """An upgrade that moves them must not leave decompression unbounded in silence."""
    assert fetcher.PartitionRecords is reading.BoundedRecords
    for name in (
        "_crecords.default_records",
        "default_records",
        "_crecords.legacy_records",
        "legacy_records",
    ):
        module = importlib.import_module(f"aiokafka.record.{name}")
        wanted = set(reading.CODECS) - ({"zstd"} if "legacy" in name else set())
        for codec in wanted:
            assert getattr(module, f"{codec}_decode").__self__.bytes_max == MIB, (name, codec)
    assert fetcher.MemoryRecords is reading.Fetched


def test_a_record_says_all_that_the_clients_own_does() -> None:
    """Faust reads through the same client."""
    for key, value in SMALL:
        mine = record(value, key=key, headers=[("h", b"1")])
        sizes = (-1 if each is None else len(each) for each in (key, value))
        its = ConsumerRecord(
            mine.topic, 0, 0, mine.timestamp, 0, key, value, None, *sizes, headers=(("h", b"1"),)
        )
        for field in ConsumerRecord.__dataclass_fields__:
            assert getattr(mine, field) == getattr(its, field), field


def test_the_old_format_is_bounded_too() -> None:
    legacy = importlib.import_module("aiokafka.record.legacy_records")
    builder = legacy.LegacyRecordBatchBuilder(1, 1, 2 * MIB * 2)
    builder.append(0, batches.TIME_MS, b"k", bytes(MIB + 10))
    (stand_in,) = fetched(bytes(builder.build()))
    assert stand_in.error.reason == "too_large_batch"


def test_a_wrong_checksum_of_the_old_format_is_seen_too() -> None:
    legacy = importlib.import_module("aiokafka.record.legacy_records")
    builder = legacy.LegacyRecordBatchBuilder(1, 0, MIB)
    builder.append(0, batches.TIME_MS, b"k", b"value")
    raw = bytearray(builder.build())
    assert pairs(list(fetched(bytes(raw)))) == [(0, b"k", b"value")]
    raw[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="checksum"):
        list(fetched(bytes(raw)))


def test_headers_and_whose_time_it_is_are_what_was_sent() -> None:
    builder = default_records.DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, MIB)
    headers = [("trace", b"1"), ("none", None)]
    builder.append(0, batches.TIME_MS, b"k", b"v", headers)
    builder.append(1, batches.TIME_MS, b"k", b"v", [])
    raw = bytearray(builder.build())
    raw[batches.ATTRIBUTES_AT + 1] |= 8  # the broker's time, not the sender's
    struct.pack_into(">I", raw, batches.CRC_AT, batches.calc_crc32c(bytes(raw[batches.ATTRIBUTES_AT :])))
    first, second = fetched(bytes(raw))
    assert (first.headers, second.headers) == (tuple(headers), ())
    assert (first.timestamp_type, first.timestamp) == (1, batches.TIME_MS)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_length_that_cannot_be_is_fetched_again_after_what_lies_before_it(before: int) -> None:
    """No checksum covers it. Whoever took it for a batch that makes no sense would look for the next one for ever."""
    raw = bytearray(b"".join(made("none", SMALL, base=3 * n) for n in range(before + 1)))
    at = len(raw) // (before + 1) * before
    struct.pack_into(">i", raw, at + 8, 5)
    if before:
        records = fetched(bytes(raw))
        assert [each.offset for each in records] == list(range(3 * before))
        assert records.next_fetch_offset == 3 * before
    with pytest.raises(CorruptRecordException, match=r"t\[3\]"):
        list(fetched(bytes(raw), at=3 * before))


def test_a_record_of_the_first_format_has_no_time() -> None:
    legacy = importlib.import_module("aiokafka.record.legacy_records")
    builder = legacy.LegacyRecordBatchBuilder(0, 0, MIB)
    builder.append(0, None, b"k", b"v")
    (found,) = fetched(bytes(builder.build()))
    assert (found.key, found.value, found.timestamp) == (b"k", b"v", -1)
