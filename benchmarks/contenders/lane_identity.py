"""Pointsman's generic lane with a work that copies: what exactly once costs by itself, without a decision."""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import TopicPartition

from benchmarks.contenders.lane import measured, settings_of
from benchmarks.contenders.task import Task
from pointsman.streams import loop
from pointsman.streams.commit import Committer
from pointsman.streams.decisions.lane import shared
from pointsman.streams.lane import Lane
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.partition import Work
from pointsman.streams.shared import Shared


class Copy:
    """Every record into the same partition of the target."""

    def __init__(self, target: str) -> None:
        self._target = target

    async def restore(self, committed: Committed) -> None:
        """It keeps nothing."""

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:  # noqa: ARG002
        """The batch again, with the positions after it."""
        output = Output(positions={tp: records[-1].offset + 1 for tp, records in batch.items() if records})
        for tp, records in batch.items():
            output.add(self._target, tp.partition, [(each.key, each.value, []) for each in records])
        return output

    def due(self) -> float | None:
        """Never anything of its own."""
        return None

    async def close(self) -> None:
        """It holds nothing."""


async def main(task: Task) -> None:
    """Copy all messages."""
    settings = settings_of(task)

    def factory(
        lane: Lane, number: int, owned: tuple[TopicPartition, ...]
    ) -> tuple[Work, Callable[[], Committer]]:
        def committer() -> Committer:
            assert lane.together is not None
            return Shared(lane.together, number, owned)

        return Copy(task.target), committer

    lane = Lane(
        name="identity",
        topics=[task.topic],
        group=settings.group,
        servers=task.servers,
        settings=settings,
        factory=factory,
        share=shared,
    )
    await measured(lane, task)


if __name__ == "__main__":
    loop.run(main(Task.given()))
