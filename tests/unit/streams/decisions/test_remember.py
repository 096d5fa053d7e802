"""After a restart: which ids are read back from the outcomes, of whatever their partition consists."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.streams import reading
from pointsman.streams.decisions.duplicates import Answered, key
from pointsman.streams.decisions.remember import remember
from pointsman.streams.output import Record
from tests.builders import outcome, record

TP = TopicPartition("decision-outcomes", 3)
DAY = 86_400.0


class Log:
    """A partition of outcomes and its consumer: offsets without a record are ends of transactions, or were aborted."""

    def __init__(self, first: int = 0, fetch: int = 7) -> None:
        self.records: list[Record] = []
        self.ids: list[str] = []
        self.first = self.end = first
        self.at = -1
        self.sought: list[int] = []
        self.options: dict[str, Any] = {}
        self.stable: int | None = None
        """Where an open transaction begins."""
        self.polls_open = 0
        """It ends after so many fetches."""
        self._asked = False
        self.running = False
        self._fetch = fetch

    def write(self, *, gap: int = 0, age_s: float = 0.0) -> None:
        """An outcome that was decided so long ago, and a gap behind it."""
        id_ = f"r{len(self.ids)}"
        decided = datetime.now(UTC) - timedelta(seconds=age_s)
        made = outcome(decision_id=id_, decided_at=decided, content_hash=f"{len(self.ids):08x}" * 2)
        self.foreign(msgspec.json.encode(made))
        self.ids.append(id_)
        self.end += gap

    def foreign(self, value: bytes | None) -> None:
        """Anything."""
        self.records.append(record(value, topic=TP.topic, partition=TP.partition, offset=self.end))
        self.end += 1

    def known(self, answered: Answered) -> list[str]:
        """The ids that are remembered, each with its content."""
        return [id_ for n, id_ in enumerate(self.ids) if answered.get(key(id_)) == n]

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == [TP]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.first)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.end if self.stable is None else self.stable)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert tp == TP and offset >= self.first
        self.sought.append(offset)
        self.at = offset

    async def position(self, tp: TopicPartition) -> int:
        assert tp == TP
        return self.at

    async def getmany(self, tp: TopicPartition, *, timeout_ms: int, max_records: int) -> Any:
        assert timeout_ms > 0
        self._asked = True
        if self.polls_open:
            self.polls_open -= 1
        else:
            self.stable = None
        end = self.end if self.stable is None else self.stable
        found = [each for each in self.records if self.at <= each.offset < end]
        found = found[: min(self._fetch, max_records)]
        self.at = found[-1].offset + 1 if found else end
        return {tp: found} if found else {}

    def highwater(self, tp: TopicPartition) -> int | None:
        assert tp == TP
        return self.end if self._asked else None


async def read_back(log: Log, ids_max: int, window_s: float = DAY) -> tuple[Answered, int]:
    """A memory that was filled from the log, and how many ids that took."""
    answered = Answered(ids_max, window_s)

    def consumer(**options: Any) -> Log:
        log.options = options
        return log

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "consumer", consumer)
        count = await remember("servers", TP, answered, ids_max=ids_max, window_s=window_s)
    assert not log.running
    assert log.options["isolation_level"] == "read_committed"
    return answered, count


@given(
    ids_max=st.integers(1, 60),
    gaps=st.lists(st.integers(0, 6), max_size=120),
    first=st.integers(0, 3),
    fetch=st.integers(1, 50),
)
@example(ids_max=60, gaps=[0] * 120, first=0, fetch=7)
@example(ids_max=60, gaps=[1] * 120, first=0, fetch=7)  # transactions of one outcome each
@example(ids_max=60, gaps=[6] * 120, first=3, fetch=50)  # most was aborted
def test_the_newest_half_of_the_ids_is_read_back_whatever_else_takes_offsets(
    ids_max: int, gaps: list[int], first: int, fetch: int
) -> None:
    log = Log(first, fetch)
    for gap in gaps:
        log.write(gap=gap)
    answered, _ = asyncio.run(read_back(log, ids_max))
    certain = max(1, ids_max // 2)
    assert set(log.known(answered)) >= set(log.ids[-certain:])
    assert len(answered) <= ids_max + 2 * fetch, "and memory stays bounded"


async def test_where_every_offset_is_an_id_no_more_is_read_than_may_be_remembered() -> None:
    log = Log()
    for _ in range(1_000):
        log.write()
    answered, count = await read_back(log, 100)
    assert (log.sought, count) == ([900], 100)
    assert log.known(answered)[-50:] == log.ids[-50:]


@pytest.mark.parametrize(("ids_max", "sought"), [(610, [97]), (500, [207, 0])])
async def test_all_within_the_window_is_read_back_and_nothing_older_is_looked_for(
    ids_max: int, sought: list[int]
) -> None:
    log = Log()
    for hours in (30, 25, 23, 20, 10, 2, 1):
        log.write(age_s=hours * 3_600, gap=100)
    answered, count = await read_back(log, ids_max)
    assert (log.known(answered), count) == (log.ids[2:], 5)
    assert log.sought == sought, "further back until it meets what is older than the window"


async def test_what_is_no_outcome_of_ours_is_passed_over() -> None:
    log = Log()
    log.write()
    for value in (None, b"", b"nonsense", b"{}", b"[" * 5_000):
        log.foreign(value)
    log.write()
    answered, count = await read_back(log, 4)
    assert log.known(answered)[-1:] == log.ids[-1:]
    assert count >= 1


async def test_an_empty_partition_is_nothing_to_remember() -> None:
    answered, count = await read_back(Log(first=5), 10)
    assert (len(answered), count) == (0, 0)


@pytest.mark.parametrize("hidden", [0, 1, 30])
async def test_ids_behind_an_open_transaction_are_waited_for(hidden: int) -> None:
    """One that partitions share ends when its own coordinator ends it, be the offsets stable by then or not."""
    log = Log()
    for n in range(60):
        if n == 60 - hidden:
            log.stable, log.polls_open = log.end, 5
        log.write(gap=1)
    answered, _ = await read_back(log, 60)
    assert log.known(answered)[-30:] == log.ids[-30:]
